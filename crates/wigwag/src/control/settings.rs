//! What whoever takes a name may state, whatever its form: policy, limits and waiting, as methods of a builder.

/// The methods of a builder that has `policy`, `limits` and `wait`. The words are for its documentation: an expression that
/// makes such a builder, who waits, what its sessions and the other ends are called, and what of strangers is copied.
macro_rules! host_settings {
    (
        builder: $builder:literal,
        who_waits: $who_waits:literal,
        sessions: $sessions:literal,
        session: $session:literal,
        host: $host:literal,
        peer: $peer:literal,
        what_counts: $what_counts:literal,
        what_is_copied: $what_is_copied:literal,
    ) => {
        #[doc = concat!("How ", $who_waits, ", default [`Wait::Adaptive`].")]
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".wait(wigwag::Wait::Spin);")]
        /// ```
        pub fn wait(mut self, wait: Wait) -> Self {
            self.wait = wait;
            self
        }

        #[doc = concat!("The most ", $sessions, " at a time, default 4096", $what_counts, ".")]
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".max_sessions(8);")]
        /// ```
        pub fn max_sessions(mut self, sessions: usize) -> Self {
            self.limits.sessions = sessions;
            self
        }

        #[doc = concat!("The most ", $sessions, " of one user at a time, default 4096 for the ", $host, "'s own user and 256 for each other.")]
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".allow_everyone().max_sessions_per_user(4);")]
        /// ```
        pub fn max_sessions_per_user(mut self, sessions: usize) -> Self {
            self.limits.sessions_per_user = sessions;
            self.limits.sessions_per_stranger = sessions;
            self
        }

        #[doc = concat!("The most bytes the segment of one ", $session, " may have, default 8 GiB. It bounds address space; memory is used as written.")]
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".max_bytes_per_session(64 << 20);")]
        /// ```
        pub fn max_bytes_per_session(mut self, bytes: usize) -> Self {
            self.limits.bytes_per_session = bytes;
            self
        }

        /// The most bytes all segments may have together, default 64 GiB.
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".max_bytes_total(1 << 30);")]
        /// ```
        pub fn max_bytes_total(mut self, bytes: usize) -> Self {
            self.limits.bytes_total = bytes;
            self
        }

        /// The most handshakes under way at a time, default 256.
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".max_handshakes(16);")]
        /// ```
        pub fn max_handshakes(mut self, handshakes: usize) -> Self {
            self.limits.handshakes = handshakes;
            self
        }

        #[doc = concat!("How long a ", $peer, " may take to shake hands, default 1 second.")]
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".handshake_timeout(std::time::Duration::from_millis(200));")]
        /// ```
        pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
            self.limits.handshake_timeout = timeout;
            self
        }

        #[doc = concat!("Lets another user in. ", $what_is_copied, "; see SECURITY.md.")]
        ///
        /// The runtime directory of a user is closed to all others: bind to an absolute path that they can reach.
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".allow_user(1001);")]
        /// ```
        pub fn allow_user(mut self, uid: u32) -> Self {
            self.policy.users.push(uid);
            self
        }

        /// Lets the members of a group in, as [`allow_user`](Self::allow_user).
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".allow_group(100);")]
        /// ```
        pub fn allow_group(mut self, gid: u32) -> Self {
            self.policy.groups.push(gid);
            self
        }

        /// Lets everybody in, as [`allow_user`](Self::allow_user).
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".allow_everyone();")]
        /// ```
        pub fn allow_everyone(mut self) -> Self {
            self.policy.everyone = true;
            self
        }
    };
}

pub(crate) use host_settings;
