//! Any [`Serialize`] type to canonical text, without building a tree: members are written as they
//! arrive, and the [`Builder`] sorts them.

use serde::Serialize;
use serde::ser::{self, Impossible};

use super::builder::{Builder, OpenObject};
use super::check::value_end_at_depth;
use super::error::{JsonError, MAX_DEPTH};
use super::number::write_float;
use super::string::write_string;

/// The newtype name by which a `Json` tells [`Writer`] that its text is canonical and can be
/// copied. The leading NUL keeps it apart from the name of any Rust type.
pub(super) const CANONICAL_TEXT: &str = "\0zero_bus::Json";

pub(super) fn to_canonical<T: Serialize + ?Sized>(value: &T) -> Result<String, JsonError> {
    let mut writer = Writer { out: Builder::with_capacity(256), depth: 0, expects_canonical_text: false };
    value.serialize(&mut writer)?;
    Ok(writer.out.finish())
}

struct Writer {
    out: Builder,
    /// Arrays and objects that are open.
    depth: usize,
    /// Set between the newtype [`CANONICAL_TEXT`] and the string in it.
    expects_canonical_text: bool,
}

impl Writer {
    fn enter(&mut self) -> Result<(), JsonError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(JsonError::too_deep(MAX_DEPTH));
        }
        Ok(())
    }

    fn float(&mut self, number: f64) -> Result<(), JsonError> {
        if !number.is_finite() {
            return Err(JsonError::not_finite(number));
        }
        write_float(number, &mut self.out.text);
        Ok(())
    }

    fn token(&mut self, token: &str) -> Result<(), JsonError> {
        self.out.text.push_str(token);
        Ok(())
    }

    /// Writes `{"variant":` of an enum. The caller writes the value and then calls
    /// [`Writer::end_variant`].
    fn begin_variant(&mut self, variant: &str) -> Result<(), JsonError> {
        self.enter()?;
        self.out.text.push('{');
        write_string(variant, &mut self.out.text);
        self.out.text.push(':');
        Ok(())
    }

    fn end_variant(&mut self) {
        self.out.text.push('}');
        self.depth -= 1;
    }
}

macro_rules! integers {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, number: $type) -> Result<(), JsonError> {
            self.token(&number.to_string())
        }
    )*};
}

impl<'a> ser::Serializer for &'a mut Writer {
    type Ok = ();
    type Error = JsonError;
    type SerializeSeq = Array<'a>;
    type SerializeTuple = Array<'a>;
    type SerializeTupleStruct = Array<'a>;
    type SerializeTupleVariant = Array<'a>;
    type SerializeMap = Object<'a>;
    type SerializeStruct = Object<'a>;
    type SerializeStructVariant = Object<'a>;

    integers!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128
    );

    /// False only for the content of a `Json`, which then hands over its text (see `data_model`).
    fn is_human_readable(&self) -> bool {
        !self.expects_canonical_text
    }

    fn serialize_bool(self, value: bool) -> Result<(), JsonError> {
        self.token(if value { "true" } else { "false" })
    }

    fn serialize_f32(self, value: f32) -> Result<(), JsonError> {
        self.float(f64::from(value))
    }

    fn serialize_f64(self, value: f64) -> Result<(), JsonError> {
        self.float(value)
    }

    fn serialize_char(self, value: char) -> Result<(), JsonError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), JsonError> {
        if std::mem::take(&mut self.expects_canonical_text) {
            // The text is canonical, so only its depth inside this document can be wrong.
            if value_end_at_depth(value.as_bytes(), 0, self.depth) != Some(value.len()) {
                return Err(JsonError::too_deep(MAX_DEPTH));
            }
            return self.token(value);
        }
        write_string(value, &mut self.out.text);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), JsonError> {
        value.serialize(self)
    }

    fn serialize_none(self) -> Result<(), JsonError> {
        self.token("null")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), JsonError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), JsonError> {
        self.token("null")
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), JsonError> {
        self.token("null")
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), JsonError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), JsonError> {
        self.expects_canonical_text = name == CANONICAL_TEXT;
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), JsonError> {
        self.begin_variant(variant)?;
        value.serialize(&mut *self)?;
        self.end_variant();
        Ok(())
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Array<'a>, JsonError> {
        Array::begin(self, false)
    }

    fn serialize_tuple(self, _len: usize) -> Result<Array<'a>, JsonError> {
        Array::begin(self, false)
    }

    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Array<'a>, JsonError> {
        Array::begin(self, false)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Array<'a>, JsonError> {
        self.begin_variant(variant)?;
        Array::begin(self, true)
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Object<'a>, JsonError> {
        Object::begin(self, false)
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Object<'a>, JsonError> {
        Object::begin(self, false)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Object<'a>, JsonError> {
        self.begin_variant(variant)?;
        Object::begin(self, true)
    }
}

/// An array under construction.
struct Array<'a> {
    writer: &'a mut Writer,
    /// Whether the array is the value of an enum variant, whose object ends with it.
    in_variant: bool,
    items: usize,
}

impl<'a> Array<'a> {
    fn begin(writer: &'a mut Writer, in_variant: bool) -> Result<Self, JsonError> {
        writer.enter()?;
        writer.out.text.push('[');
        Ok(Self { writer, in_variant, items: 0 })
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), JsonError> {
        if self.items > 0 {
            self.writer.out.text.push(',');
        }
        let position = self.items;
        self.items += 1;
        value.serialize(&mut *self.writer).map_err(|error| error.inside(|| format!("[{position}]")))
    }

    fn finish(self) {
        self.writer.out.text.push(']');
        self.writer.depth -= 1;
        if self.in_variant {
            self.writer.end_variant();
        }
    }
}

macro_rules! array_like {
    ($($trait:ident::$method:ident),*) => {$(
        impl ser::$trait for Array<'_> {
            type Ok = ();
            type Error = JsonError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), JsonError> {
                self.item(value)
            }

            fn end(self) -> Result<(), JsonError> {
                self.finish();
                Ok(())
            }
        }
    )*};
}

array_like!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

/// An object under construction.
struct Object<'a> {
    writer: &'a mut Writer,
    /// Whether the object is the value of an enum variant, whose object ends with it.
    in_variant: bool,
    object: OpenObject,
    /// The key of a map's member whose value has not arrived yet.
    key: Option<String>,
}

impl<'a> Object<'a> {
    fn begin(writer: &'a mut Writer, in_variant: bool) -> Result<Self, JsonError> {
        writer.enter()?;
        let object = writer.out.begin_object();
        Ok(Self { writer, in_variant, object, key: None })
    }

    fn member<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), JsonError> {
        let out = &mut self.writer.out;
        if !self.object.is_empty() {
            out.text.push(',');
        }
        let begin = out.text.len();
        write_string(key, &mut out.text);
        out.add_member(&mut self.object, begin);
        out.text.push(':');
        value
            .serialize(&mut *self.writer)
            .map_err(|error| error.inside(|| format!(".{}", key.escape_debug())))
    }

    fn finish(self) {
        self.writer.out.end_object(self.object);
        self.writer.depth -= 1;
        if self.in_variant {
            self.writer.end_variant();
        }
    }
}

impl ser::SerializeMap for Object<'_> {
    type Ok = ();
    type Error = JsonError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), JsonError> {
        self.key = Some(key.serialize(KeySerializer)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), JsonError> {
        let key = self.key.take().ok_or_else(|| JsonError::new("a map gave a value before its key"))?;
        self.member(&key, value)
    }

    fn end(self) -> Result<(), JsonError> {
        self.finish();
        Ok(())
    }
}

macro_rules! struct_like {
    ($($trait:ident),*) => {$(
        impl ser::$trait for Object<'_> {
            type Ok = ();
            type Error = JsonError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), JsonError> {
                self.member(key, value)
            }

            fn end(self) -> Result<(), JsonError> {
                self.finish();
                Ok(())
            }
        }
    )*};
}

struct_like!(SerializeStruct, SerializeStructVariant);

/// Writes the key of a map as text.
struct KeySerializer;

fn not_a_key<T>() -> Result<T, JsonError> {
    Err(JsonError::new("a map key must be a string, an integer or a boolean"))
}

macro_rules! keys {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, key: $type) -> Result<String, JsonError> {
            Ok(key.to_string())
        }
    )*};
}

impl ser::Serializer for KeySerializer {
    type Ok = String;
    type Error = JsonError;
    type SerializeSeq = Impossible<String, JsonError>;
    type SerializeTuple = Impossible<String, JsonError>;
    type SerializeTupleStruct = Impossible<String, JsonError>;
    type SerializeTupleVariant = Impossible<String, JsonError>;
    type SerializeMap = Impossible<String, JsonError>;
    type SerializeStruct = Impossible<String, JsonError>;
    type SerializeStructVariant = Impossible<String, JsonError>;

    keys!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
        serialize_bool: bool, serialize_char: char, serialize_str: &str
    );

    fn serialize_f32(self, _: f32) -> Result<String, JsonError> {
        not_a_key()
    }

    fn serialize_f64(self, _: f64) -> Result<String, JsonError> {
        not_a_key()
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<String, JsonError> {
        not_a_key()
    }

    fn serialize_none(self) -> Result<String, JsonError> {
        not_a_key()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, key: &T) -> Result<String, JsonError> {
        key.serialize(self)
    }

    fn serialize_unit(self) -> Result<String, JsonError> {
        not_a_key()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<String, JsonError> {
        not_a_key()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<String, JsonError> {
        Ok(variant.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        key: &T,
    ) -> Result<String, JsonError> {
        key.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<String, JsonError> {
        not_a_key()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, JsonError> {
        not_a_key()
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, JsonError> {
        not_a_key()
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, JsonError> {
        not_a_key()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, JsonError> {
        not_a_key()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, JsonError> {
        not_a_key()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, JsonError> {
        not_a_key()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, JsonError> {
        not_a_key()
    }
}
