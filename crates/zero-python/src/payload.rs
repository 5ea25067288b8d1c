//! Values of Python as canonical JSON. Each is either exact or refused with its path.

use std::cell::RefCell;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple, PyType};
use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};
use zero_bus::{Checksum, Json};

use crate::error;

/// Which keys of a dictionary are accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Strings only: another key would be read back as a string.
    Strings,
    /// Also numbers, booleans and None, as the strings that `json.dumps` makes of them.
    AsText,
}

impl From<bool> for Keys {
    fn from(as_text: bool) -> Self {
        if as_text { Self::AsText } else { Self::Strings }
    }
}

/// Returns the canonical form of a value. `field` names it in errors.
///
/// # Errors
/// `PayloadError` (a `ValueError`) or `PayloadTypeError` (also a `TypeError`) with the path of the
/// value that has no exact form; what code of the value raised.
pub(crate) fn to_json(value: &Bound<'_, PyAny>, field: &str, keys: Keys) -> PyResult<Json> {
    let failure = RefCell::new(None);
    Json::of(&Node { value, context: &Context { keys, failure: &failure } }).map_err(|problem| {
        let is_type = match failure.take() {
            Some(Failure::Raised(raised)) => return raised,
            Some(Failure::Type) => true,
            None => false,
        };
        let (path, py) = (problem.path(), value.py());
        let separator = if path.is_empty() || path.starts_with(['[', '…']) { "" } else { "." };
        error::payload(py, format!("{field}{separator}{path}"), problem.problem(), is_type)
    })
}

/// The canonical JSON text of a value: the bytes that a log holds for it. `name` names the value in
/// errors.
#[pyfunction]
#[pyo3(signature = (value, *, name = None, _keys_as_text = false))]
pub(crate) fn canonical(
    value: &Bound<'_, PyAny>,
    name: Option<String>,
    _keys_as_text: bool,
) -> PyResult<String> {
    let name = name.as_deref().unwrap_or("value");
    to_json(value, name, _keys_as_text.into()).map(|json| json.as_str().to_owned())
}

/// `sha256:` and the checksum of the canonical JSON text of a value.
#[pyfunction]
#[pyo3(signature = (value, *, _keys_as_text = false))]
pub(crate) fn checksum(value: &Bound<'_, PyAny>, _keys_as_text: bool) -> PyResult<String> {
    let json = to_json(value, "value", _keys_as_text.into())?;
    Ok(Checksum::of(json.as_str().as_bytes()).to_string())
}

/// Why a conversion failed, besides the text in the error of the serializer.
enum Failure {
    /// The type of a value has no JSON form.
    Type,
    /// Code of the value raised.
    Raised(PyErr),
}

struct Context<'a> {
    keys: Keys,
    failure: &'a RefCell<Option<Failure>>,
}

impl Context<'_> {
    fn raised<E: serde::ser::Error>(&self, raised: PyErr) -> E {
        *self.failure.borrow_mut() = Some(Failure::Raised(raised));
        E::custom("the value raised an exception")
    }

    fn refused_type<E: serde::ser::Error>(&self, problem: impl std::fmt::Display) -> E {
        *self.failure.borrow_mut() = Some(Failure::Type);
        E::custom(problem)
    }
}

/// A value on its way into the canonical form.
struct Node<'a, 'py> {
    value: &'a Bound<'py, PyAny>,
    context: &'a Context<'a>,
}

impl Serialize for Node<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { value, context } = *self;
        // Booleans are integers in Python, and come first.
        if let Ok(text) = value.cast::<PyString>() {
            self.text(text, serializer)
        } else if let Ok(number) = value.cast_exact::<PyFloat>() {
            serializer.serialize_f64(number.value())
        } else if let Ok(flag) = value.cast::<PyBool>() {
            serializer.serialize_bool(flag.is_true())
        } else if let Ok(number) = value.cast::<PyInt>() {
            self.integer(number, serializer)
        } else if value.is_none() {
            serializer.serialize_unit()
        } else if let Ok(dict) = value.cast::<PyDict>() {
            self.object(dict, serializer)
        } else if let Ok(list) = value.cast::<PyList>() {
            let mut items = serializer.serialize_seq(None)?;
            list.iter().try_for_each(|item| items.serialize_element(&Node { value: &item, context }))?;
            items.end()
        } else if let Ok(tuple) = value.cast::<PyTuple>() {
            let mut items = serializer.serialize_seq(None)?;
            tuple.iter().try_for_each(|item| items.serialize_element(&Node { value: &item, context }))?;
            items.end()
        } else if let Ok(number) = value.cast::<PyFloat>() {
            serializer.serialize_f64(number.value())
        } else {
            self.other(serializer)
        }
    }
}

impl<'py> Node<'_, 'py> {
    fn text<S: Serializer>(&self, text: &Bound<'py, PyString>, serializer: S) -> Result<S::Ok, S::Error> {
        match text.to_cow() {
            Ok(text) => serializer.serialize_str(&text),
            Err(_) => Err(S::Error::custom("the text has a lone surrogate, which has no JSON form")),
        }
    }

    fn integer<S: Serializer>(&self, number: &Bound<'py, PyInt>, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(small) = number.extract::<i64>() {
            return serializer.serialize_i64(small);
        }
        // `int.__repr__`, because a subclass may print something else.
        let digits = number.py().get_type::<PyInt>().call_method1("__repr__", (number,));
        let digits = digits.and_then(|digits| digits.extract::<String>());
        let digits = digits.map_err(|error| S::Error::custom(error.value(number.py())))?;
        Json::parse(&digits).map_err(S::Error::custom)?.serialize(serializer)
    }

    fn object<S: Serializer>(&self, dict: &Bound<'py, PyDict>, serializer: S) -> Result<S::Ok, S::Error> {
        let context = self.context;
        // Converting a value can run code that changes the dictionary.
        let members: Vec<_> = dict.iter().collect();
        let mut object = serializer.serialize_map(Some(members.len()))?;
        for (key, value) in &members {
            let node = Node { value, context };
            match key.cast::<PyString>() {
                Ok(key) => {
                    let key = key.to_cow().map_err(|_| {
                        S::Error::custom("a key has a lone surrogate, which has no JSON form")
                    })?;
                    object.serialize_entry(&*key, &node)?;
                }
                Err(_) => object.serialize_entry(&self.key_as_text(key)?, &node)?,
            }
        }
        object.end()
    }

    fn key_as_text<E: serde::ser::Error>(&self, key: &Bound<'py, PyAny>) -> Result<String, E> {
        let is_scalar = key.is_none()
            || key.is_instance_of::<PyBool>()
            || key.is_instance_of::<PyInt>()
            || key.is_instance_of::<PyFloat>();
        if self.context.keys == Keys::AsText && is_scalar {
            return Json::of(&Node { value: key, context: self.context })
                .map(|json| json.as_str().to_owned())
                .map_err(E::custom);
        }
        let described = key.repr().map(|repr| repr.to_string()).unwrap_or_default();
        Err(self.context.refused_type(format!(
            "the key {described} is {}, not a string; a log would give it back as a string",
            with_article(key)
        )))
    }

    /// A value of a type that JSON does not know.
    fn other<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { value, context } = *self;
        match self.replacement() {
            Ok(Some(Replacement::Value(replacement))) => {
                Node { value: &replacement, context }.serialize(serializer)
            }
            Ok(Some(Replacement::Refused(problem))) => Err(S::Error::custom(problem)),
            Ok(None) => {
                let name = with_article(value);
                let hint = hint(value);
                Err(context.refused_type(format!("{name} has no JSON form{hint}")))
            }
            Err(raised) => Err(context.raised(raised)),
        }
    }

    /// A value that JSON knows and that is equal to this one; `None` if the type has none.
    fn replacement(&self) -> PyResult<Option<Replacement<'py>>> {
        let (value, py) = (self.value, self.value.py());
        if let Some(decimal) = loaded_class(py, "decimal", "Decimal")?
            && value.is_instance(&decimal)?
        {
            return decimal_replacement(value).map(Some);
        }
        if let Some(datetime) = loaded_class(py, "datetime", "datetime")?
            && value.is_instance(&datetime)?
        {
            // Only the missing time of pandas differs from itself.
            if value.ne(value)? {
                return Ok(Some(Replacement::Refused("it is not a time".to_owned())));
            }
            if value.call_method0("utcoffset")?.is_none() {
                let problem = "a datetime without a time zone is ambiguous; add one, as in \
                               `value.replace(tzinfo=timezone.utc)`";
                return Ok(Some(Replacement::Refused(problem.to_owned())));
            }
            return Ok(Some(Replacement::Value(value.call_method0("isoformat")?)));
        }
        if let Some(date) = loaded_class(py, "datetime", "date")?
            && value.is_instance(&date)?
        {
            return Ok(Some(Replacement::Value(value.call_method0("isoformat")?)));
        }
        if let Some(model) = loaded_class(py, "pydantic", "BaseModel")?
            && value.is_instance(&model)?
        {
            return Ok(Some(Replacement::Value(value.call_method0("model_dump")?)));
        }
        if is_numpy_number(value)? {
            // `item` returns the equal value of Python, and the scalar itself if there is none.
            let item = value.call_method0("item")?;
            let is_number = item.is_instance_of::<PyFloat>() || item.is_instance_of::<PyInt>();
            return Ok(is_number.then_some(Replacement::Value(item)));
        }
        if value.hasattr("__dataclass_fields__")? && !value.is_instance_of::<PyType>() {
            let names = py.import("dataclasses")?.call_method1("fields", (value,))?;
            let members = PyDict::new(py);
            for field in names.try_iter()? {
                let name = field?.getattr("name")?.cast_into::<PyString>()?;
                members.set_item(&name, value.getattr(&name)?)?;
            }
            return Ok(Some(Replacement::Value(members.into_any())));
        }
        Ok(None)
    }
}

enum Replacement<'py> {
    Value(Bound<'py, PyAny>),
    /// No exact form, and why.
    Refused(String),
}

/// A whole `Decimal` is an integer. Another one is a float, if the digits that the log will hold
/// are its own.
fn decimal_replacement<'py>(value: &Bound<'py, PyAny>) -> PyResult<Replacement<'py>> {
    let py = value.py();
    if !value.call_method0("is_finite")?.is_truthy()? {
        return Ok(Replacement::Refused(format!("{} is not a finite number", value.str()?)));
    }
    let exponent = value.call_method0("as_tuple")?.getattr("exponent")?.extract::<i64>()?;
    let is_negative_zero = !value.is_truthy()? && value.call_method0("is_signed")?.is_truthy()?;
    if exponent >= 0 && !is_negative_zero {
        // 10 ** 1000000 would be written in full.
        if exponent > 4_000 {
            return Ok(Replacement::Refused(format!("{} is too long; pass a str", value.str()?)));
        }
        return Ok(Replacement::Value(py.get_type::<PyInt>().call1((value,))?));
    }
    let float = py.get_type::<PyFloat>().call1((value,))?;
    if value.get_type().call1((float.repr()?,))?.eq(value)? {
        return Ok(Replacement::Value(float));
    }
    let problem = format!("{} has more digits than a float keeps; pass a str", value.str()?);
    Ok(Replacement::Refused(problem))
}

/// Returns a class of a module that is loaded already: no value of it exists otherwise.
fn loaded_class<'py>(py: Python<'py>, module: &str, class: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let modules = MODULES.get_or_try_init(py, || {
        PyResult::Ok(py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?.unbind())
    })?;
    match modules.bind(py).get_item(module)? {
        Some(module) => module.getattr_opt(class),
        None => Ok(None),
    }
}

/// Whether a value is a number or a boolean of numpy. A duration counts as a number there, but not
/// here: `item` may return it without its unit.
fn is_numpy_number(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let is_a = |class: &str| match loaded_class(value.py(), "numpy", class)? {
        Some(class) => value.is_instance(&class),
        None => Ok(false),
    };
    Ok(is_a("bool_")? || (is_a("number")? && !is_a("timedelta64")?))
}

/// The type of a value with its article: `a set`, `an ndarray`.
fn with_article(value: &Bound<'_, PyAny>) -> String {
    let name = value.get_type().name().map_or_else(|_| "object".to_owned(), |name| name.to_string());
    let article = if name.starts_with(['a', 'e', 'i', 'o', 'A', 'E', 'I', 'O']) { "an" } else { "a" };
    format!("{article} {name}")
}

/// What to pass instead, if there is one obvious answer.
fn hint(value: &Bound<'_, PyAny>) -> &'static str {
    let is_named = |name: &str| value.get_type().name().is_ok_and(|found| found == name);
    if value.is_instance_of::<PyBytes>() {
        "; decode it, or encode it in base64"
    } else if is_named("set") || is_named("frozenset") {
        "; pass a sorted list"
    } else if is_named("ndarray") {
        "; pass `value.tolist()`"
    } else if is_named("UUID") || is_named("PosixPath") {
        "; pass `str(value)`"
    } else if value.is_instance_of::<PyMapping>() {
        "; pass a dict"
    } else {
        ""
    }
}
