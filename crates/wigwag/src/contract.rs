//! The contract: what both sides must agree on before a byte is exchanged.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::{Error, ErrorKind, Result};
use crate::form::Form;

/// A payload type that can be lent to the server and served as `&mut T`.
///
/// Both sides compare [`NAME`](Payload::NAME), size, alignment and [`VERSION`](Payload::VERSION) at connect; a
/// difference is an error that shows both. The name is yours to choose, because the compiler's own differs between
/// binaries. The type must be plain memory: `#[repr(C)]`, no padding, every bit pattern valid, aligned to 16 at most.
/// zerocopy's derives look for a crate `zerocopy`; `#[zerocopy(crate = "wigwag::zerocopy")]` shows them the one that is
/// here.
///
/// ```
/// use wigwag::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy)]
/// #[zerocopy(crate = "wigwag::zerocopy")]
/// #[repr(C)]
/// struct Order { id: u64, price: i64, quantity: u32, side: u32 }
///
/// impl wigwag::Payload for Order {
///     const NAME: &'static str = "Order";
///     const VERSION: u32 = 2; // grows when a field changes its meaning
/// }
/// assert_eq!(wigwag::Contract::of::<Order>().to_string(), "Order version 2 (24 bytes, align 8)");
/// ```
pub trait Payload: FromBytes + IntoBytes + KnownLayout + Immutable {
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
    pub(crate) encoding: Encoding,
}

/// How values of serde types become bytes. Part of the contract: a peer with another encoding is refused.
///
/// **MessagePack with names** is what a contract has that says nothing. Every field and variant carries its name, as in
/// JSON, so what an attribute leaves out, renames, flattens or tags is what comes back: `skip_serializing_if`, `skip`,
/// `default`, `rename`, `alias`, `flatten`, `untagged`, `tag`, `content`, `with`, and values such as
/// `serde_json::Value`. What could come back as something else is an error: `Some(None)`, `Some(())` and the like,
/// which are written as `None` is, and a tuple struct that leaves out a field. Types that have a readable form
/// (addresses, UUIDs) are written in that form. What is left is what serde itself says of `untagged`: the first variant
/// that fits is taken, so variants that look alike (a `String` and a `char`) are one; and a tuple struct with both
/// `skip_serializing_if` and `default` on its fields, inside of an `untagged`, `tag` or `flatten`.
///
/// **postcard** is some 4 times as small, and twice to five times as quick (docs/benchmarks.md), and has no names:
/// fields and variants go by their order. It is right for types without attributes that change what is written:
/// structs, enums, tuples, numbers, texts, options, lists and maps, as derived. `flatten`, `untagged`, `tag` and
/// `Value`s are errors, and so is a field that `skip_serializing_if` leaves out. **A variant or field with `skip` gives
/// wrong values in silence**, and so does a type that differs on the two sides: that is what the names are for.
///
/// ```
/// use wigwag::{Contract, Encoding};
/// let contract = Contract::named("orders", 2).in_encoding(Encoding::Postcard);
/// assert_eq!(contract.to_string(), "orders version 2 in postcard");
/// assert_ne!(contract, Contract::named("orders", 2));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Encoding {
    /// MessagePack with names (feature `serde`). Of bytes and of typed payloads, which are not encoded, it says
    /// nothing.
    #[default]
    MessagePack = 0,
    /// postcard (feature `postcard`).
    Postcard = 1,
}

impl Encoding {
    pub(crate) fn from_number(number: u8) -> Option<Encoding> {
        [Encoding::MessagePack, Encoding::Postcard].into_iter().find(|encoding| *encoding as u8 == number)
    }
}

/// Largest capacity of a slot: lengths are 32 bits wide.
pub const CAPACITY_MAX: usize = 1 << 30;

/// Longest name of a contract in bytes.
pub const CONTRACT_NAME_MAX: usize = 128;

/// Payloads begin at multiples of this: in a slot's line, in its body, and in a bounce buffer.
const PAYLOAD_ALIGN: usize = 16;

/// Refuses, when the program is compiled, a type that no payload can be: called in a `const` block by each typed
/// handle.
pub(crate) const fn check_type<T>() {
    assert!(
        align_of::<T>() <= PAYLOAD_ALIGN,
        "a message's alignment may be at most 16: payloads begin at multiples of 16; take `align(..)` off the type, or \
         send its fields"
    );
    assert!(
        size_of::<T>() <= CAPACITY_MAX,
        "a message may have at most 1 GiB, which is the largest capacity of a session"
    );
}

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
        Contract { name: name.into(), version, size: 0, align: 0, form: Form::default(), encoding: Encoding::default() }
    }

    /// The contract of a typed payload.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// assert_eq!(wigwag::Contract::of::<Tick>().to_string(), "Tick version 0 (8 bytes, align 8)");
    /// ```
    pub fn of<T: Payload>() -> Contract {
        const { check_type::<T>() };
        Contract {
            name: T::NAME.to_owned(),
            version: T::VERSION,
            size: size_of::<T>() as u32,
            align: align_of::<T>() as u16, // at most 16
            form: Form::default(),
            encoding: Encoding::default(),
        }
    }

    /// The same contract with the size and the alignment of a typed payload, for a program that does not have the
    /// type, such as a gateway: as [`of`](Contract::of) has them, of the type's name and version. An alignment of 0 is
    /// that of bytes, which have no size.
    ///
    /// What no type has is refused at bind or connect: an alignment that is no power of two or above 16, and a size
    /// that is no multiple of it or above 1 GiB.
    ///
    /// ```
    /// let orders = wigwag::Contract::named("Order", 2).with_layout(24, 8);
    /// assert_eq!(orders.to_string(), "Order version 2 (24 bytes, align 8)");
    /// assert_eq!((orders.size(), orders.align()), (24, 8));
    /// ```
    #[must_use]
    pub fn with_layout(self, size: u32, align: u16) -> Contract {
        Contract { size, align, ..self }
    }

    /// The name.
    ///
    /// ```
    /// assert_eq!(wigwag::Contract::named("orders", 2).name(), "orders");
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version.
    ///
    /// ```
    /// assert_eq!(wigwag::Contract::named("orders", 2).version(), 2);
    /// ```
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The size of a typed payload in bytes; 0 of bytes and of encoded values.
    ///
    /// ```
    /// assert_eq!(wigwag::Contract::bytes().size(), 0);
    /// ```
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The alignment of a typed payload in bytes; 0 of bytes and of encoded values.
    ///
    /// ```
    /// assert_eq!(wigwag::Contract::bytes().align(), 0);
    /// ```
    pub fn align(&self) -> u16 {
        self.align
    }

    /// How values become bytes.
    ///
    /// ```
    /// assert_eq!(wigwag::Contract::bytes().encoding(), wigwag::Encoding::MessagePack);
    /// ```
    #[cfg(feature = "serde")]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The same contract, with values that are encoded in another way: for [`call_with`](crate::Client::call_with) and
    /// the like.
    ///
    /// ```
    /// # use wigwag::{Contract, Encoding};
    /// let orders = Contract::named("orders", 2).in_encoding(Encoding::Postcard);
    /// let (client, server) = (wigwag::Client::builder().contract(orders.clone()), wigwag::Server::builder()
    ///     .contract(orders));
    /// ```
    #[cfg(feature = "serde")]
    pub fn in_encoding(self, encoding: Encoding) -> Contract {
        Contract { encoding, ..self }
    }

    /// The same for another form.
    #[allow(dead_code, reason = "the forms beside the exchange use it")]
    pub(crate) fn in_form(self, form: Form) -> Contract {
        Contract { form, ..self }
    }

    /// Alignment, form and encoding as they lie in a message: sixteen bits, eight bits, eight bits.
    pub(crate) fn align_and_form(&self) -> u32 {
        u32::from(self.align) | u32::from(self.form.number()) << 16 | u32::from(self.encoding as u8) << 24
    }

    /// The name has a length that the handshake can carry.
    pub(crate) fn check(&self) -> Result<()> {
        if self.encoding == Encoding::Postcard && cfg!(not(feature = "postcard")) {
            return Err(Error::new(
                ErrorKind::InvalidConfiguration,
                "the contract says that values are in postcard, but this program is built without the feature \
                 `postcard`",
            ));
        }
        self.check_layout()?;
        if (1..=CONTRACT_NAME_MAX).contains(&self.name.len()) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidConfiguration,
            format!("a contract's name of {} bytes is outside of 1 to {CONTRACT_NAME_MAX}", self.name.len()),
        ))
    }

    /// A type could have this size and this alignment.
    fn check_layout(&self) -> Result<()> {
        let (size, align) = (self.size as usize, usize::from(self.align));
        let is_possible = match align {
            0 => size == 0,
            _ => {
                align.is_power_of_two() && align <= PAYLOAD_ALIGN && size.is_multiple_of(align) && size <= CAPACITY_MAX
            }
        };
        if is_possible {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidConfiguration,
            format!(
                "no payload has {size} bytes and an alignment of {align}: the alignment is a power of two up to \
                 {PAYLOAD_ALIGN}, and the size a multiple of it up to {CAPACITY_MAX}, or both are 0"
            ),
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
        out.write_str(self.form.contract_ending())?;
        if self.encoding == Encoding::Postcard {
            out.write_str(" in postcard")?;
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

    impl Payload for Order {
        const NAME: &'static str = "Order";
        const VERSION: u32 = 2;
    }

    #[test]
    fn a_type_states_its_name_version_size_and_alignment() {
        let contract = Contract::of::<Order>();
        assert_eq!(
            contract,
            Contract {
                name: "Order".into(),
                version: 2,
                size: 24,
                align: 8,
                form: Form::Exchange,
                encoding: Encoding::default()
            }
        );
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

    #[test]
    fn a_layout_without_its_type_is_that_of_the_type_or_refused() {
        assert_eq!(Contract::named("Order", 2).with_layout(24, 8), Contract::of::<Order>());
        for (size, align) in [(0, 0), (0, 1), (24, 8), (16, 16), (CAPACITY_MAX as u32, 1)] {
            Contract::named("n", 0).with_layout(size, align).check().unwrap();
        }
        for (size, align) in [(1, 0), (24, 3), (24, 32), (20, 8), (CAPACITY_MAX as u32 + 1, 1), (0, u16::MAX)] {
            let error = Contract::named("n", 0).with_layout(size, align).check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{size} {align}");
        }
    }

    #[test]
    #[cfg(feature = "serde")]
    fn an_encoding_is_part_of_a_contract_and_must_be_built_in() {
        let orders = Contract::named("orders", 2).in_encoding(Encoding::Postcard);
        assert_eq!(orders.to_string(), "orders version 2 in postcard");
        assert_ne!(orders.hash(), Contract::named("orders", 2).hash());
        assert_eq!(orders.check().is_ok(), cfg!(feature = "postcard"));
        Contract::named("orders", 2).check().unwrap();
    }
}
