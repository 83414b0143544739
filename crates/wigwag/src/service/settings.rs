//! The setters of the three builders that take a name: each hands its value on to the builder's [`ListenOptions`].

/// The setters of a builder that has `options: ListenOptions`; the word is an expression that makes such a builder, for
/// its examples. This is a macro, because three builders with ten setters each, and an example for each, would be twice
/// as long as this file and `Limits` together. What a setting means is written there, once.
///
/// [`ListenOptions`]: crate::options::ListenOptions
macro_rules! listen_settings {
    ($builder:literal) => {
        /// All that these options say, in the place of all that was set before.
        ///
        /// ```
        /// let options = wigwag::ListenOptions::default().wait(wigwag::Wait::Park);
        #[doc = concat!("let builder = ", $builder, ".options(options);")]
        /// ```
        pub fn options(mut self, options: ListenOptions) -> Self {
            self.options = options.in_form(self.options.contract.form);
            self
        }

        /// How much the other ends get, in the place of what was set before of that.
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".limits(wigwag::Limits::default().max_sessions(8));")]
        /// ```
        pub fn limits(mut self, limits: Limits) -> Self {
            self.options.limits = limits;
            self
        }

        /// The users who are let in besides the server's own; replaces what was set before.
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".access(wigwag::Access::default().allow_user(1001));")]
        /// ```
        pub fn access(mut self, access: Access) -> Self {
            self.options.access = access;
            self
        }

        /// How this side waits, default [`Wait::Adaptive`], as [`ListenOptions::wait`] says.
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".wait(wigwag::Wait::Spin);")]
        /// ```
        pub fn wait(mut self, wait: Wait) -> Self {
            self.options.wait = wait;
            self
        }

        /// What is served, default plain bytes; a peer with another contract is refused.
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".contract(wigwag::Contract::named(\"frames\", 2));")]
        /// ```
        pub fn contract(mut self, contract: Contract) -> Self {
            self.options.contract = contract.in_form(self.options.contract.form);
            self
        }

        /// The most sessions at a time, default 4096; [`Limits::max_sessions`] says what counts.
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".max_sessions(8);")]
        /// ```
        pub fn max_sessions(mut self, sessions: usize) -> Self {
            self.options.limits = self.options.limits.max_sessions(sessions);
            self
        }

        /// The most sessions of one user at a time, default 4096 for the own user and 256 for each other.
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".allow_everyone().max_sessions_per_user(4);")]
        /// ```
        pub fn max_sessions_per_user(mut self, sessions: usize) -> Self {
            self.options.limits = self.options.limits.max_sessions_per_user(sessions);
            self
        }

        /// The most bytes the segment of one session may have, default 8 GiB. It bounds address space; memory is used
        /// as written.
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".max_bytes_per_session(64 << 20);")]
        /// ```
        pub fn max_bytes_per_session(mut self, bytes: usize) -> Self {
            self.options.limits = self.options.limits.max_bytes_per_session(bytes);
            self
        }

        /// The most bytes all segments may have together, default 64 GiB.
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".max_bytes_total(1 << 30);")]
        /// ```
        pub fn max_bytes_total(mut self, bytes: usize) -> Self {
            self.options.limits = self.options.limits.max_bytes_total(bytes);
            self
        }

        /// The most handshakes under way at a time, default 256.
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".max_handshakes(16);")]
        /// ```
        pub fn max_handshakes(mut self, handshakes: usize) -> Self {
            self.options.limits = self.options.limits.max_handshakes(handshakes);
            self
        }

        /// How long the other end may take to shake hands, default 1 second.
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".handshake_timeout(std::time::Duration::from_millis(200));")]
        /// ```
        pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
            self.options.limits = self.options.limits.handshake_timeout(timeout);
            self
        }

        /// Serves on a socket that was handed over, in the place of one that `bind` makes:
        /// [`ListenOptions::from_listener`] says more.
        ///
        /// ```no_run
        /// use std::os::fd::{FromRawFd, OwnedFd};
        /// // SAFETY: systemd has left the first one for us, and nobody else takes it.
        /// let socket = unsafe { OwnedFd::from_raw_fd(3) };
        #[doc = concat!("let builder = ", $builder, ".from_listener(socket);")]
        /// ```
        pub fn from_listener(mut self, listener: std::os::fd::OwnedFd) -> Self {
            self.options = self.options.from_listener(listener);
            self
        }

        /// Takes the name over from the server that has it, which may take so long to let it go:
        /// [`ListenOptions::replace`] says more.
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".replace(std::time::Duration::from_secs(5));")]
        /// ```
        pub fn replace(mut self, timeout: Duration) -> Self {
            self.options = self.options.replace(timeout);
            self
        }

        /// Lets another user in. What it writes is copied before this program sees it; [`Access`] and SECURITY.md say
        /// more.
        ///
        /// The runtime directory of a user is closed to all others: bind to an absolute path that they can reach.
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".allow_user(1001);")]
        /// ```
        pub fn allow_user(mut self, uid: u32) -> Self {
            self.options.access = self.options.access.allow_user(uid);
            self
        }

        /// Lets the members of a group in, as [`allow_user`](Self::allow_user).
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".allow_group(100);")]
        /// ```
        pub fn allow_group(mut self, gid: u32) -> Self {
            self.options.access = self.options.access.allow_group(gid);
            self
        }

        /// Lets everybody in, as [`allow_user`](Self::allow_user).
        ///
        /// ```
        #[doc = concat!("let builder = ", $builder, ".allow_everyone();")]
        /// ```
        pub fn allow_everyone(mut self) -> Self {
            self.options.access = self.options.access.allow_everyone();
            self
        }
    };
}

pub(crate) use listen_settings;
