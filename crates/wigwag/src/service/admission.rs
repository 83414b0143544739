//! Who may have a session, how much of it, and in which mode; decided by the server alone.

use crate::contract::Contract;
use crate::faults::{self, Fault};
use crate::memory::layout::{Geometry, LAYOUT_VERSION, LAYOUT_VERSION_MIN, RING_MIN, RINGS};
use crate::options::{Access, Limits, ListenOptions};
use crate::session::agreement::{ClockReading, Features, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, Protocol};
use crate::session::peer::Trust;
use crate::session::protocol::{Hello, Reason, SERVERS_CHOICE};
use crate::sys::socket::Credentials;

impl Access {
    /// Whether other users than the server's may come at all: then the socket must let them in.
    pub(crate) fn admits_other_users(&self) -> bool {
        self.everyone || !self.users.is_empty() || !self.groups.is_empty()
    }

    /// Decides on a peer. `groups` is asked only when it matters.
    pub(crate) fn admit(
        &self,
        own_uid: u32,
        overflow_uid: u32,
        peer: &Credentials,
        groups: impl FnOnce() -> Vec<u32>,
    ) -> Result<Trust, String> {
        // A user that our namespace does not know shows as the overflow user, and so does every other such user: it is
        // nobody's own, whoever we are.
        let is_known = peer.uid != overflow_uid;
        if peer.uid == own_uid && is_known {
            return Ok(Trust::SameUser);
        }
        let is_listed = self.users.contains(&peer.uid) || self.groups.contains(&peer.gid);
        let named = self.everyone || (is_known && is_listed);
        if named || (!self.groups.is_empty() && groups().iter().any(|group| self.groups.contains(group))) {
            return Ok(Trust::OtherUser);
        }
        if !is_known {
            return Err(format!(
                "user {} stands for all whom the server's user namespace does not know, and no list lets them in, \
                 only a server that admits everyone (ServerBuilder::allow_everyone)",
                peer.uid
            ));
        }
        Err(format!(
            "user {} is not among those whom the server, of user {own_uid}, lets in (ServerBuilder::allow_user)",
            peer.uid
        ))
    }
}

impl ListenOptions {
    /// What a client that is trusted so far is offered.
    pub(crate) fn offered(&self, trust: Trust) -> Features {
        let form = self.contract.form;
        let is_trusted = trust == Trust::SameUser || faults::is(Fault::TrustedCarrier);
        let has_descriptors = self.descriptors && is_trusted && form.carries_descriptors();
        Features::NONE
            .with(Features::DESCRIPTORS, has_descriptors)
            .with(Features::BEGUN, form.can_be_followed())
            .with(Features::MOVED, form.can_be_followed())
            .with(Features::TELLS_MOVES, form.can_be_kept())
    }
}

/// What is in use when a client connects.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Sessions alive.
    pub sessions: usize,
    /// Of these, the peer's user's.
    pub sessions_of_user: usize,
    /// Bytes of all segments.
    pub bytes: usize,
}

/// What a client is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The memory.
    pub geometry: Geometry,
    /// The version of the session.
    pub protocol: Protocol,
    /// What both sides can.
    pub features: Features,
    /// The client's clock, if it said.
    pub client_clock: Option<ClockReading>,
}

/// A refusal: why, for programs and for people.
pub type Refused = (Reason, String);

impl Limits {
    /// Decides on the wishes of a client that is let in and offered these features. No memory has been made for it yet.
    pub(crate) fn grant(
        &self,
        hello: &Hello,
        contract: &Contract,
        offered: Features,
        trust: Trust,
        usage: Usage,
    ) -> Result<Grant, Refused> {
        let refused = |why: String| (Reason::Refused, why);
        let builder = contract.form.builder_name();
        let protocol = hello.protocol().or_else(|| faults::is(Fault::UncheckedVersion).then_some(Protocol::V1));
        let Some(protocol) = protocol else { return Err((Reason::Version, Self::not_understood(hello))) };
        let (theirs, required) = hello.extension.map_or_else(Default::default, |it| (it.features, it.required));
        let features = offered.and(theirs);
        let missing = required.missing_in(features);
        if !missing.is_empty() && !faults::is(Fault::UncheckedFeatures) {
            return Err((
                Reason::Version,
                format!(
                    "the client requires the features {missing}, which this server does not have: build both with the \
                     same version of wigwag, and ask for what both were built with"
                ),
            ));
        }
        if hello.contract != *contract {
            return Err((
                Reason::Contract,
                format!("the server serves {contract}, but the client speaks {}", hello.contract),
            ));
        }
        if usage.sessions >= self.sessions {
            return Err(refused(format!(
                "all {} sessions the server allows are in use ({builder}::max_sessions)",
                self.sessions
            )));
        }
        let per_user = match trust {
            Trust::SameUser => self.sessions_per_user,
            Trust::OtherUser => self.sessions_per_other_user,
        };
        if usage.sessions_of_user >= per_user {
            return Err(refused(format!(
                "all {per_user} sessions the server allows one user are in use ({builder}::max_sessions_per_user)"
            )));
        }
        let wish = |wanted: u32, stated: usize, what: &str, setter: &str| match wanted {
            SERVERS_CHOICE => Ok(stated),
            wanted if wanted as usize <= stated => Ok(wanted as usize),
            wanted => Err(refused(format!(
                "the client wants {wanted} {what}, the server allows {stated} ({builder}::{setter})"
            ))),
        };
        let slots = wish(hello.slots, self.slots_in(contract.form), "slots", "slots")?;
        let (what, setter) = contract.form.capacity_words();
        let capacity = wish(hello.capacity, self.capacity_in(contract.form), what, setter)?;
        let geometry = Geometry::of_form(contract.form, slots, capacity)
            .ok_or_else(|| refused(Self::impossible(contract, slots, capacity)))?;
        if contract.form.has_board() && protocol < Protocol::V2 {
            return Err((Reason::Version, Self::not_understood(hello)));
        }
        let size = geometry.segment_size;
        if size > self.bytes_per_session {
            return Err(refused(format!(
                "{slots} slots of {capacity} bytes make {size} bytes, the server allows {} for a session \
                 ({builder}::max_bytes_per_session)",
                self.bytes_per_session
            )));
        }
        if usage.bytes.saturating_add(size) > self.bytes_total && !faults::is(Fault::UncheckedQuota) {
            return Err(refused(format!(
                "{} bytes are in use and {size} more would exceed the {} the server allows in total \
                 ({builder}::max_bytes_total)",
                usage.bytes, self.bytes_total
            )));
        }
        Ok(Grant { geometry, protocol, features, client_clock: hello.extension.map(|hello| hello.clock) })
    }

    /// Why no session has these sizes.
    fn impossible(contract: &Contract, slots: usize, capacity: usize) -> String {
        match contract.form.has_rings() {
            true => format!(
                "a stream has {RINGS} rings, of a power of two of at least {RING_MIN} bytes; the client wants {slots} \
                 of {capacity}"
            ),
            false => format!("{slots} slots are outside of what is possible"),
        }
    }

    /// Names the versions of both sides.
    fn not_understood(hello: &Hello) -> String {
        let layouts = match hello.extension {
            Some(extension) => format!("layouts {} to {}", extension.layout_min, hello.layout_version),
            None => format!("layout {}", hello.layout_version),
        };
        format!(
            "the server speaks protocols {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION} with layouts \
             {LAYOUT_VERSION_MIN} to {LAYOUT_VERSION}, the client protocols {} to {} with {layouts}: build both with \
             the same version of wigwag",
            hello.protocol_min, hello.protocol_max
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::Form;
    use crate::session::protocol::HelloExtension;

    fn hello() -> Hello {
        Hello::new(Protocol::V2, None, None, Contract::bytes(), Features::DESCRIPTORS)
    }

    fn required(features: Features) -> Hello {
        let hello = hello();
        let extension = hello.extension.map(|extension| HelloExtension { required: features, ..extension });
        Hello { extension, ..hello }
    }

    fn grant(hello: &Hello, usage: Usage) -> Result<Grant, Refused> {
        let limits = Limits {
            sessions: 3,
            sessions_per_user: 2,
            slots: Some(4),
            capacity: Some(10_000),
            bytes_per_session: 50_000,
            bytes_total: 150_000,
            ..Limits::default()
        };
        limits.grant(hello, &Contract::bytes(), Features::NONE, Trust::SameUser, usage)
    }

    #[test]
    fn a_modest_wish_is_granted() {
        for (protocol, has_clock) in [(Protocol::V1, false), (Protocol::V2, true)] {
            let hello = Hello::new(protocol, Some(2), None, Contract::bytes(), Features::DESCRIPTORS);
            let granted = grant(&hello, Usage::default()).unwrap();
            assert_eq!((granted.geometry.slots, granted.geometry.capacity), (2, 10_000));
            assert_eq!((granted.protocol, granted.client_clock.is_some()), (protocol, has_clock));
            assert!(granted.features.is_empty());
        }
    }

    #[test]
    fn descriptors_travel_if_both_ask_and_never_with_other_users() {
        let options = ListenOptions::default();
        let asked = options.clone().descriptors(true);
        let asked = asked.access(Access::default().allow_everyone());
        for (options, own) in [(&options, false), (&asked, true)] {
            for (trust, travel) in [(Trust::SameUser, own), (Trust::OtherUser, false)] {
                assert_eq!(options.offered(trust).has(Features::DESCRIPTORS), travel, "{options:?} {trust:?}");
            }
        }
        let stream = asked.in_form(Form::Stream);
        assert!(stream.offered(Trust::SameUser).is_empty());
        for (theirs, both) in [(Features::NONE, Features::NONE), (Features::DESCRIPTORS, Features::DESCRIPTORS)] {
            let hello = Hello::new(Protocol::V2, None, None, Contract::bytes(), theirs);
            let usage = Usage::default();
            let granted =
                Limits::default().grant(&hello, &Contract::bytes(), Features::DESCRIPTORS, Trust::SameUser, usage);
            assert_eq!(granted.unwrap().features, both);
        }
    }

    #[test]
    fn marks_and_moves_are_offered_by_servers_that_answer() {
        for form in [Form::Exchange, Form::Queue, Form::Stream] {
            let offered = ListenOptions::default().in_form(form).offered(Trust::OtherUser);
            let expected = Features::NONE
                .with(Features::BEGUN, form == Form::Exchange)
                .with(Features::MOVED, form == Form::Exchange)
                .with(Features::TELLS_MOVES, form == Form::Queue);
            assert_eq!(offered, expected, "{form:?}");
        }
    }

    #[test]
    fn what_just_fits_is_granted() {
        let geometry = Geometry::new(2, 10_000).unwrap();
        let size = geometry.segment_size;
        let limits = |per_session: usize, total: usize| Limits {
            slots: Some(2),
            capacity: Some(10_000),
            bytes_per_session: per_session,
            bytes_total: total,
            ..Limits::default()
        };
        let ask = |limits: Limits, used: usize| {
            let usage = Usage { bytes: used, ..Usage::default() };
            limits
                .grant(&hello(), &Contract::bytes(), Features::NONE, Trust::SameUser, usage)
                .map(|granted| granted.geometry)
        };
        assert_eq!(ask(limits(size, 3 * size), 2 * size), Ok(geometry));
        assert!(ask(limits(size - 1, 3 * size), 0).is_err());
        assert!(ask(limits(size, 3 * size), 2 * size + 1).is_err());
    }

    #[test]
    fn every_limit_refuses_with_its_numbers() {
        let user_full = Usage { sessions_of_user: 2, ..Usage::default() };
        let full = Usage { sessions: 3, ..Usage::default() };
        let bytes_full = Usage { bytes: 140_000, ..Usage::default() };
        let cases = [
            (Hello { slots: 5, ..hello() }, Usage::default(), "wants 5 slots, the server allows 4"),
            (Hello { capacity: 10_001, ..hello() }, Usage::default(), "wants 10001 bytes"),
            (hello(), Usage::default(), "allows 50000 for a session"),
            (Hello { slots: 1, ..hello() }, user_full, "all 2 sessions the server allows one user"),
            (Hello { slots: 1, ..hello() }, full, "all 3 sessions"),
            (Hello { slots: 1, ..hello() }, bytes_full, "140000 bytes are in use"),
            (Hello { layout_version: 1, ..hello() }, Usage::default(), "layouts 2 to 1"),
            (Hello { layout_version: 99, extension: None, ..hello() }, Usage::default(), "layout 99"),
            (Hello { protocol_min: 3, protocol_max: 7, ..hello() }, Usage::default(), "protocols 3 to 7"),
            (required(Features(1 << 9 | 1)), Usage::default(), "requires the features 0, 9"),
            (Hello { contract: Contract::named("other", 3), ..hello() }, Usage::default(), "other version 3"),
        ];
        for (hello, usage, text) in cases {
            let (_, why) = grant(&hello, usage).unwrap_err();
            assert!(why.contains(text), "{why:?} lacks {text:?}");
        }
    }

    #[test]
    fn the_socket_is_open_to_others_if_any_of_them_may_come() {
        assert!(!Access::default().admits_other_users());
        assert!(Access { everyone: true, ..Access::default() }.admits_other_users());
        assert!(Access { users: vec![7], ..Access::default() }.admits_other_users());
        assert!(Access { groups: vec![7], ..Access::default() }.admits_other_users());
    }

    #[test]
    fn other_users_are_refused_unless_named() {
        let peer = Credentials { uid: 7, gid: 8, pid: 1 };
        let ask = |access: &Access, own: u32| access.admit(own, 65534, &peer, || vec![9]).ok();
        let nobody = Access::default();
        assert_eq!(ask(&nobody, 7), Some(Trust::SameUser));
        assert_eq!(ask(&nobody, 1), None);
        assert_eq!(ask(&Access { users: vec![7], ..Access::default() }, 1), Some(Trust::OtherUser));
        assert_eq!(ask(&Access { groups: vec![8], ..Access::default() }, 1), Some(Trust::OtherUser));
        assert_eq!(ask(&Access { groups: vec![9], ..Access::default() }, 1), Some(Trust::OtherUser));
        assert_eq!(ask(&Access { groups: vec![10], ..Access::default() }, 1), None);
        assert_eq!(ask(&Access { everyone: true, ..Access::default() }, 1), Some(Trust::OtherUser));
        // Whom the kernel cannot name is not the server's own user, even where the server itself is nobody.
        let unmapped = Credentials { uid: 65534, gid: 65534, pid: 1 };
        let why = nobody.admit(65534, 65534, &unmapped, Vec::new).unwrap_err();
        assert!(why.contains("no list lets them in"), "{why}");
        // Root gets no rights here that the policy does not give.
        let root = Credentials { uid: 0, gid: 0, pid: 1 };
        assert!(nobody.admit(1, 65534, &root, Vec::new).is_err());
    }
}
