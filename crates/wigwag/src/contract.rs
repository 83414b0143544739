//! The contract: what both sides must agree on before a byte is exchanged.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::{Error, ErrorKind, Result};

/// A payload type that can be lent to the server and served as `&mut T`.
///
/// Both sides compare [`NAME`](Message::NAME), size, alignment and [`VERSION`](Message::VERSION) at connect; a
/// difference is an error that shows both. The name is yours to choose, because the compiler's own differs between
/// binaries. The type must be plain memory: `#[repr(C)]`, no padding, every bit pattern valid.
///
/// ```
/// use wigwag::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy)]
/// #[repr(C)]
/// struct Order { id: u64, price: i64, quantity: u32, side: u32 }
///
/// impl wigwag::Message for Order {
///     const NAME: &'static str = "Order";
///     const VERSION: u32 = 2; // grows when a field changes its meaning
/// }
/// assert_eq!(wigwag::Contract::of::<Order>().to_string(), "Order version 2 (24 bytes, align 8)");
/// ```
pub trait Message: FromBytes + IntoBytes + KnownLayout + Immutable {
    /// The name both sides know the type by, 1 to 128 bytes.
    const NAME: &'static str;
    /// The version of the type's meaning.
    const VERSION: u32 = 0;
}

/// What a server serves and a client speaks; compared at connect.
///
/// ```
/// use wigwag::Contract;
/// assert_eq!(Contract::default(), Contract::bytes());
/// assert_ne!(Contract::named("thumbnails", 1), Contract::named("thumbnails", 2));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) size: u32,
    pub(crate) align: u16,
    pub(crate) form: Form,
}

/// What two programs do with the memory that they share. Part of the contract: who speaks another form is refused.
///
/// ```
/// assert_eq!(wigwag::Form::Exchange.to_string(), "exchange");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Form {
    /// Call and reply: [`Client`](crate::Client) and [`Server`](crate::Server).
    #[default]
    Exchange = 0,
    /// Messages one way: many senders, one receiver.
    Queue = 1,
    /// Bytes both ways, as through a socket.
    Stream = 2,
}

impl Form {
    /// The form with that number; `None` when this version does not know it.
    pub(crate) fn from_number(number: u8) -> Option<Form> {
        [Form::Exchange, Form::Queue, Form::Stream].into_iter().find(|form| *form as u8 == number)
    }

    /// What the side that takes the name is built with, for sentences that name a cure.
    pub(crate) fn builder(self) -> &'static str {
        match self {
            Form::Exchange => "ServerBuilder",
            Form::Queue => "ReceiverBuilder",
            Form::Stream => "StreamListenerBuilder",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Form::Exchange => "exchange",
            Form::Queue => "queue",
            Form::Stream => "stream",
        })
    }
}

/// Longest name of a contract in bytes.
pub const CONTRACT_NAME_MAX: usize = 128;

impl Contract {
    /// Plain bytes of any length: what [`Client::connect`](crate::Client::connect) and
    /// [`Server::bind`](crate::Server::bind) use.
    ///
    /// ```
    /// assert_eq!(wigwag::Contract::bytes().to_string(), "bytes version 0");
    /// ```
    pub fn bytes() -> Contract {
        Contract::named("bytes", 0)
    }

    /// Bytes with a meaning of your own, under a name and a version.
    ///
    /// A name longer than 128 bytes, or empty, is refused at bind or connect.
    ///
    /// ```
    /// let contract = wigwag::Contract::named("jpeg-thumbnails", 3);
    /// assert_eq!(contract.to_string(), "jpeg-thumbnails version 3");
    /// ```
    pub fn named(name: impl Into<String>, version: u32) -> Contract {
        Contract { name: name.into(), version, size: 0, align: 0, form: Form::Exchange }
    }

    /// The contract of a typed payload.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
    /// impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
    /// assert_eq!(wigwag::Contract::of::<Tick>().to_string(), "Tick version 0 (8 bytes, align 8)");
    /// ```
    pub fn of<T: Message>() -> Contract {
        Contract {
            name: T::NAME.to_owned(),
            version: T::VERSION,
            size: size_of::<T>() as u32,
            align: align_of::<T>() as u16, // at most 16, checked where a typed face is made
            form: Form::Exchange,
        }
    }

    /// The same for another form.
    #[allow(dead_code, reason = "the forms beside the exchange use it")]
    pub(crate) fn in_form(self, form: Form) -> Contract {
        Contract { form, ..self }
    }

    /// Alignment and form as they lie in a message: sixteen bits, eight bits, eight that are zero.
    pub(crate) fn align_and_form(&self) -> u32 {
        u32::from(self.align) | u32::from(self.form as u8) << 16
    }

    /// The name has a length that the handshake can carry.
    pub(crate) fn check(&self) -> Result<()> {
        if (1..=CONTRACT_NAME_MAX).contains(&self.name.len()) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidConfiguration,
            format!("a contract's name of {} bytes is outside of 1 to {CONTRACT_NAME_MAX}", self.name.len()),
        ))
    }

    /// FNV-1a over all parts (Fowler, Noll, Vo): an identity for the segment's header, not a defence.
    pub(crate) fn hash(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let parts = [
            self.name.as_bytes(),
            &self.version.to_le_bytes(),
            &self.size.to_le_bytes(),
            &self.align_and_form().to_le_bytes(),
        ];
        for byte in parts.into_iter().flatten() {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash
    }
}

impl Default for Contract {
    fn default() -> Contract {
        Contract::bytes()
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} version {}", self.name.escape_debug(), self.version)?;
        if self.align != 0 {
            write!(out, " ({} bytes, align {})", self.size, self.align)?;
        }
        if self.form != Form::Exchange {
            write!(out, " as a {}", self.form)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    #[repr(C)]
    struct Order {
        id: u64,
        price: i64,
        quantity: u32,
        side: u32,
    }

    impl Message for Order {
        const NAME: &'static str = "Order";
        const VERSION: u32 = 2;
    }

    #[test]
    fn a_type_states_its_name_version_size_and_alignment() {
        let contract = Contract::of::<Order>();
        assert_eq!(contract, Contract { name: "Order".into(), version: 2, size: 24, align: 8, form: Form::Exchange });
        assert_eq!(contract.to_string(), "Order version 2 (24 bytes, align 8)");
        assert_eq!(Contract::named("Order", 2).to_string(), "Order version 2");
    }

    #[test]
    fn another_form_is_another_contract_and_says_so() {
        let queue = Contract::of::<Order>().in_form(Form::Queue);
        assert_ne!(queue, Contract::of::<Order>());
        assert_ne!(queue.hash(), Contract::of::<Order>().hash());
        assert_eq!(queue.to_string(), "Order version 2 (24 bytes, align 8) as a queue");
        assert_eq!(Contract::bytes().in_form(Form::Stream).to_string(), "bytes version 0 as a stream");
        for number in 0..=u8::MAX {
            assert_eq!(Form::from_number(number).map(|form| form as u8), (number < 3).then_some(number));
        }
    }

    #[test]
    fn golden_hashes() {
        // FNV-1a of name, version, size, alignment and form, computed elsewhere.
        assert_eq!(Contract::bytes().hash(), 0xafd3_c1fa_5585_1ca4);
        assert_eq!(Contract::of::<Order>().hash(), 0xdf8b_fc38_3c5c_9d55);
        assert_eq!(Contract::bytes().in_form(Form::Queue).hash(), 0xafd7_27fa_5587_ffcd);
    }

    #[test]
    fn a_name_fits_into_the_handshake_or_is_refused() {
        let check = |len: usize| Contract::named("n".repeat(len), 0).check();
        for len in [1, CONTRACT_NAME_MAX] {
            check(len).unwrap();
        }
        for len in [0, CONTRACT_NAME_MAX + 1] {
            assert_eq!(check(len).unwrap_err().kind(), ErrorKind::InvalidConfiguration, "{len}");
        }
    }
}
