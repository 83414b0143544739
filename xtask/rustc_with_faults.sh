#!/bin/sh
# The compiler of the workspace's packages, for the builds that have faults in them (crates/wigwag/src/faults.rs): as
# RUSTC_WORKSPACE_WRAPPER it leaves all that they depend on as it is, which flags for all crates would compile anew.
exec "$@" --cfg wigwag_faults
