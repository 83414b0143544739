//! Nothing is encoded that would be decoded as something else, and nothing decoded that may have been something else.
//!
//! Formats that describe themselves have one gap: nothing at all is written for `None`, for `()` and for whatever else
//! a type encodes as nothing, and `Some` writes what is in it. So `Some(None)` and `Some(())` would come back as
//! `None`. [`Checked`] refuses those when they are encoded. (Formats without names mark each Option, and have another
//! gap: a field that is left out. That is refused there.) And a tuple has no names: a tuple struct that leaves out a
//! field (`skip_serializing_if`) and fills in another (`default`) would come back with its fields moved. [`Strict`]
//! refuses a tuple that has not all its fields when it is decoded.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// A value that is encoded only if it can be told from all others of its type. `POSITIONAL`: by a format that has no
/// names.
pub struct Checked<'v, T: ?Sized, const POSITIONAL: bool> {
    value: &'v T,
    /// Whether it is what a `Some` holds.
    in_some: bool,
}

impl<'v, T: ?Sized, const POSITIONAL: bool> Checked<'v, T, POSITIONAL> {
    /// A value as a whole.
    pub fn new(value: &'v T) -> Self {
        Checked { value, in_some: false }
    }
}

impl<T: Serialize + ?Sized, const POSITIONAL: bool> Serialize for Checked<'_, T, POSITIONAL> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Checking::<S, POSITIONAL> { serializer, in_some: self.in_some && !POSITIONAL })
    }
}

struct Checking<S, const POSITIONAL: bool> {
    serializer: S,
    in_some: bool,
}

impl<S: Serializer, const POSITIONAL: bool> Checking<S, POSITIONAL> {
    fn check(&self, what: &str) -> Result<(), S::Error> {
        if !self.in_some {
            return Ok(());
        }
        Err(S::Error::custom(format_args!(
            "an Option has {what} in it, which could not be told from None where it is decoded: put it into a struct \
             or an enum, or \
             use an enum in place of the Option"
        )))
    }
}

macro_rules! pass_on {
    ($($function:ident: $type:ty),* $(,)?) => {
        $(fn $function(self, value: $type) -> Result<S::Ok, S::Error> { self.serializer.$function(value) })*
    };
}

impl<S: Serializer, const POSITIONAL: bool> Serializer for Checking<S, POSITIONAL> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<S::SerializeSeq, POSITIONAL>;
    type SerializeTuple = Parts<S::SerializeTuple, POSITIONAL>;
    type SerializeTupleStruct = Parts<S::SerializeTupleStruct, POSITIONAL>;
    type SerializeTupleVariant = Parts<S::SerializeTupleVariant, POSITIONAL>;
    type SerializeMap = Parts<S::SerializeMap, POSITIONAL>;
    type SerializeStruct = Parts<S::SerializeStruct, POSITIONAL>;
    type SerializeStructVariant = Parts<S::SerializeStructVariant, POSITIONAL>;

    pass_on! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_f32: f32, serialize_f64: f64, serialize_char: char, serialize_str: &str,
        serialize_bytes: &[u8],
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.check("None")?;
        self.serializer.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.serializer.serialize_some(&Checked::<T, POSITIONAL> { value, in_some: true })
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.check("nothing")?;
        self.serializer.serialize_unit()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.serializer.serialize_unit_struct(name) // an empty list
    }

    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.serializer.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        self.serializer.serialize_newtype_struct(name, &Checked::<T, POSITIONAL> { value, in_some: self.in_some })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.serializer.serialize_newtype_variant(name, index, variant, &Checked::<T, POSITIONAL>::new(value))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.serializer.serialize_seq(len).map(Parts)
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.serializer.serialize_tuple(len).map(Parts)
    }

    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.serializer.serialize_tuple_struct(name, len).map(Parts)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.serializer.serialize_tuple_variant(name, index, variant, len).map(Parts)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.serializer.serialize_map(len).map(Parts)
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        self.serializer.serialize_struct(name, len).map(Parts)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.serializer.serialize_struct_variant(name, index, variant, len).map(Parts)
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.serializer.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.serializer.is_human_readable()
    }
}

/// Something of several parts, each of them checked.
struct Parts<C, const POSITIONAL: bool>(C);

macro_rules! parts {
    ($($trait:ident: $function:ident),*) => {
        $(impl<C: $trait, const POSITIONAL: bool> $trait for Parts<C, POSITIONAL> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn $function<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                self.0.$function(&Checked::<T, POSITIONAL>::new(value))
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.0.end()
            }
        })*
    };
}

parts!(
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field
);

macro_rules! named_parts {
    ($($trait:ident),*) => {
        $(impl<C: $trait, const POSITIONAL: bool> $trait for Parts<C, POSITIONAL> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), C::Error> {
                self.0.serialize_field(key, &Checked::<T, POSITIONAL>::new(value))
            }

            fn skip_field(&mut self, key: &'static str) -> Result<(), C::Error> {
                if POSITIONAL {
                    return Err(C::Error::custom(format_args!(
                        "the field {key} was left out (skip_serializing_if), and in this encoding, which has no names, \
                         the \
                         next one would be taken for it: use Encoding::MessagePack, or take the attribute off"
                    )));
                }
                self.0.skip_field(key)
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.0.end()
            }
        })*
    };
}

named_parts!(SerializeStruct, SerializeStructVariant);

impl<C: SerializeMap, const POSITIONAL: bool> SerializeMap for Parts<C, POSITIONAL> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.0.serialize_key(&Checked::<T, POSITIONAL>::new(key))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.0.serialize_value(&Checked::<T, POSITIONAL>::new(value))
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.0.end()
    }
}

/// A decoder, a visitor, or a part of what is decoded, which takes tuples only as a whole.
pub struct Strict<D>(pub D);

/// A visitor, and how many fields a tuple must have that comes to it.
struct Visiting<V> {
    visitor: V,
    fields: Option<usize>,
}

fn any<V>(visitor: V) -> Visiting<V> {
    Visiting { visitor, fields: None }
}

macro_rules! decode_as_it_is {
    ($($function:ident($($argument:ident: $type:ty),*)),* $(,)?) => {
        $(fn $function<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$function($($argument,)* any(visitor))
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;

    decode_as_it_is! {
        deserialize_any(), deserialize_bool(), deserialize_i8(), deserialize_i16(), deserialize_i32(),
        deserialize_i64(), deserialize_i128(), deserialize_u8(), deserialize_u16(), deserialize_u32(),
        deserialize_u64(), deserialize_u128(),
        deserialize_f32(), deserialize_f64(), deserialize_char(), deserialize_str(), deserialize_string(),
        deserialize_bytes(), deserialize_byte_buf(), deserialize_option(), deserialize_unit(),
        deserialize_unit_struct(name: &'static str), deserialize_newtype_struct(name: &'static str), deserialize_seq(),
        deserialize_tuple(len: usize), deserialize_map(),
        deserialize_struct(name: &'static str, fields: &'static [&'static str]),
        deserialize_enum(name: &'static str, variants: &'static [&'static str]), deserialize_identifier(),
        deserialize_ignored_any(),
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple_struct(name, len, Visiting { visitor, fields: Some(len) })
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! visit_as_it_is {
    ($($function:ident: $type:ty),* $(,)?) => {
        $(fn $function<E: de::Error>(self, value: $type) -> Result<V::Value, E> { self.visitor.$function(value) })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Visiting<V> {
    type Value = V::Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(out)
    }

    visit_as_it_is! {
        visit_bool: bool, visit_i8: i8, visit_i16: i16, visit_i32: i32, visit_i64: i64, visit_i128: i128, visit_u8: u8,
        visit_u16: u16, visit_u32: u32, visit_u64: u64, visit_u128: u128, visit_f32: f32, visit_f64: f64,
        visit_char: char, visit_str: &str, visit_borrowed_str: &'de str, visit_string: String, visit_bytes: &[u8],
        visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>,
    }

    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, decoder: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Strict(decoder))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, decoder: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(Strict(decoder))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, parts: A) -> Result<V::Value, A::Error> {
        if let (Some(fields), Some(len)) = (self.fields, parts.size_hint())
            && fields != len
        {
            return Err(de::Error::custom(format_args!(
                "{len} fields came of a tuple that has {fields}: which of them was left out cannot be told"
            )));
        }
        self.visitor.visit_seq(Strict(parts))
    }

    fn visit_map<A: MapAccess<'de>>(self, parts: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Strict(parts))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(Strict(variant))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, decoder: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Strict(decoder))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Strict(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(Strict(seed))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Strict(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Strict<A> {
    type Error = A::Error;
    type Variant = Strict<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let (value, variant) = self.0.variant_seed(Strict(seed))?;
        Ok((value, Strict(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(Strict(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(len, Visiting { visitor, fields: Some(len) })
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, any(visitor))
    }
}
