//! Anything serializable to canonical text, without a tree: members are written as they come.

use serde::Serialize;
use serde::ser::{self, Impossible};

use super::order::{Form, Object};
use super::parse::{JsonError, MAX_DEPTH};
use super::scan;
use super::write;

/// The name by which a [`Json`](super::Json) makes itself known to [`Writer`], so that its text goes in as it
/// is. No type can be called so by accident.
pub(super) const CANONICAL_TEXT: &str = "\0zero_bus::Json";

pub(super) fn to_canonical<T: Serialize + ?Sized>(value: &T) -> Result<String, JsonError> {
    let mut writer = Writer { form: Form::with_capacity(256), depth: 0, canonical_text: false };
    value.serialize(&mut writer)?;
    Ok(writer.form.finish())
}

fn too_deep() -> JsonError {
    JsonError::new(format!("nested deeper than {MAX_DEPTH} levels"))
}

struct Writer {
    form: Form,
    depth: usize,
    /// The string that comes next is canonical text.
    canonical_text: bool,
}

impl Writer {
    fn enter(&mut self) -> Result<(), JsonError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep());
        }
        Ok(())
    }

    fn float(&mut self, number: f64) -> Result<(), JsonError> {
        if !number.is_finite() {
            return Err(JsonError::new(format!("{number} is not a finite number")));
        }
        write::float(number, &mut self.form.text);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), JsonError> {
        self.form.text.push_str(text);
        Ok(())
    }

    /// `{"variant":` of an enum; its value follows, then [`Writer::close_variant`].
    fn open_variant(&mut self, variant: &str) -> Result<(), JsonError> {
        self.enter()?;
        self.form.text.push('{');
        write::string(variant, &mut self.form.text);
        self.form.text.push(':');
        Ok(())
    }

    fn close_variant(&mut self) {
        self.form.text.push('}');
        self.depth -= 1;
    }
}

macro_rules! integers {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, number: $type) -> Result<(), JsonError> {
            self.text(&number.to_string())
        }
    )*};
}

impl<'a> ser::Serializer for &'a mut Writer {
    type Ok = ();
    type Error = JsonError;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeTupleStruct = Items<'a>;
    type SerializeTupleVariant = Items<'a>;
    type SerializeMap = Members<'a>;
    type SerializeStruct = Members<'a>;
    type SerializeStructVariant = Members<'a>;

    integers!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128
    );

    fn serialize_bool(self, value: bool) -> Result<(), JsonError> {
        self.text(if value { "true" } else { "false" })
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
        if std::mem::take(&mut self.canonical_text) {
            // What is canonical by itself may nest too deep in here.
            if scan::inside(value.as_bytes(), self.depth) != Some(value.len()) {
                return Err(too_deep());
            }
            return self.text(value);
        }
        write::string(value, &mut self.form.text);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), JsonError> {
        value.serialize(self)
    }

    fn serialize_none(self) -> Result<(), JsonError> {
        self.text("null")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), JsonError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), JsonError> {
        self.text("null")
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), JsonError> {
        self.text("null")
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
        self.canonical_text = name == CANONICAL_TEXT;
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), JsonError> {
        self.open_variant(variant)?;
        value.serialize(&mut *self)?;
        self.close_variant();
        Ok(())
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Items<'a>, JsonError> {
        Items::open(self, false)
    }

    fn serialize_tuple(self, _len: usize) -> Result<Items<'a>, JsonError> {
        Items::open(self, false)
    }

    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Items<'a>, JsonError> {
        Items::open(self, false)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Items<'a>, JsonError> {
        self.open_variant(variant)?;
        Items::open(self, true)
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Members<'a>, JsonError> {
        Members::open(self, false)
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Members<'a>, JsonError> {
        Members::open(self, false)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Members<'a>, JsonError> {
        self.open_variant(variant)?;
        Members::open(self, true)
    }
}

/// An array being written.
struct Items<'a> {
    writer: &'a mut Writer,
    in_variant: bool,
    written: usize,
}

impl<'a> Items<'a> {
    fn open(writer: &'a mut Writer, in_variant: bool) -> Result<Self, JsonError> {
        writer.enter()?;
        writer.form.text.push('[');
        Ok(Self { writer, in_variant, written: 0 })
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), JsonError> {
        if self.written > 0 {
            self.writer.form.text.push(',');
        }
        let position = self.written;
        self.written += 1;
        value.serialize(&mut *self.writer).map_err(|error| error.inside(|| format!("[{position}]")))
    }

    fn close(self) {
        self.writer.form.text.push(']');
        self.writer.depth -= 1;
        if self.in_variant {
            self.writer.close_variant();
        }
    }
}

macro_rules! array_like {
    ($($trait:ident::$method:ident),*) => {$(
        impl ser::$trait for Items<'_> {
            type Ok = ();
            type Error = JsonError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), JsonError> {
                self.item(value)
            }

            fn end(self) -> Result<(), JsonError> {
                self.close();
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

/// An object being written.
struct Members<'a> {
    writer: &'a mut Writer,
    in_variant: bool,
    object: Object,
    /// A map's key that waits for its value.
    key: Option<String>,
}

impl<'a> Members<'a> {
    fn open(writer: &'a mut Writer, in_variant: bool) -> Result<Self, JsonError> {
        writer.enter()?;
        let object = writer.form.open();
        Ok(Self { writer, in_variant, object, key: None })
    }

    fn member<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), JsonError> {
        let form = &mut self.writer.form;
        if !self.object.is_empty() {
            form.text.push(',');
        }
        let begin = form.text.len();
        write::string(key, &mut form.text);
        form.name(&mut self.object, begin);
        form.text.push(':');
        value
            .serialize(&mut *self.writer)
            .map_err(|error| error.inside(|| format!(".{}", key.escape_debug())))
    }

    fn close(self) {
        self.writer.form.close(self.object);
        self.writer.depth -= 1;
        if self.in_variant {
            self.writer.close_variant();
        }
    }
}

impl ser::SerializeMap for Members<'_> {
    type Ok = ();
    type Error = JsonError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), JsonError> {
        self.key = Some(key.serialize(Key)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), JsonError> {
        let key = self.key.take().ok_or_else(|| JsonError::new("a map gave a value before its key"))?;
        self.member(&key, value)
    }

    fn end(self) -> Result<(), JsonError> {
        self.close();
        Ok(())
    }
}

macro_rules! struct_like {
    ($($trait:ident),*) => {$(
        impl ser::$trait for Members<'_> {
            type Ok = ();
            type Error = JsonError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), JsonError> {
                self.member(key, value)
            }

            fn end(self) -> Result<(), JsonError> {
                self.close();
                Ok(())
            }
        }
    )*};
}

struct_like!(SerializeStruct, SerializeStructVariant);

/// A map's key as text.
struct Key;

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

impl ser::Serializer for Key {
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
