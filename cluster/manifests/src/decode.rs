//! A document as the Kubernetes API's own type, refusing fields that the type does not have.

use crate::finding::{Sink, quoted};
use serde::de::DeserializeOwned;
use serde_ignored::Path as Ignored;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};
use std::collections::BTreeSet;

/// The most values of wrong types that are looked for in one object.
const MISTAKES_MAX: usize = 64;

/// What stands in for a value of a wrong type while the rest is looked at.
const STAND_INS: [fn() -> Value; 5] = [
    || Value::Null,
    || Value::Object(serde_json::Map::new()),
    || Value::String(String::new()),
    || Value::from(0),
    || Value::Array(Vec::new()),
];

/// Reads an object. A value of a wrong type is reported and stood in for, so that it hides nothing
/// that stands behind it; the object then is there to be checked further, though not to be used.
pub(crate) fn object<T: DeserializeOwned>(mut value: Value, sink: &mut Sink<'_>) -> Option<T> {
    let mut unknown = BTreeSet::new();
    let mut tries: (String, usize) = Default::default();
    let mut read = None;
    for _ in 0..MISTAKES_MAX {
        let error = match attempt(&value, &mut unknown) {
            Ok(object) => {
                read = Some(object);
                break;
            }
            Err(error) => error,
        };
        let field = error.path().to_string();
        let field = if field == "." { String::new() } else { field };
        sink.error(&field, error.inner().to_string());
        tries = if tries.0 == field { (field, tries.1 + 1) } else { (field, 0) };
        let (Some(stand_in), Some(wrong)) =
            (STAND_INS.get(tries.1), find(&mut value, error.path()))
        else {
            break;
        };
        *wrong = stand_in();
    }
    for field in unknown {
        sink.error(&field, "is a field that the Kubernetes API does not know");
    }
    read
}

fn attempt<T: DeserializeOwned>(
    value: &Value,
    unknown: &mut BTreeSet<String>,
) -> Result<T, serde_path_to_error::Error<serde_json::Error>> {
    let mut track = serde_path_to_error::Track::new();
    let mut note = |path: Ignored<'_>| {
        unknown.insert(spell(&path));
    };
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    T::deserialize(serde_ignored::Deserializer::new(tracked, &mut note))
        .map_err(|error| serde_path_to_error::Error::new(track.path(), error))
}

/// A path as people write it.
fn spell(path: &Ignored<'_>) -> String {
    match path {
        Ignored::Root => String::new(),
        Ignored::Seq { parent, index } => format!("{}[{index}]", spell(parent)),
        Ignored::Map { parent, key } => {
            let parent = spell(parent);
            let key = quoted(key);
            let key = key.trim_matches('"');
            if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
        }
        Ignored::Some { parent }
        | Ignored::NewtypeStruct { parent }
        | Ignored::NewtypeVariant { parent } => spell(parent),
    }
}

fn find<'a>(value: &'a mut Value, path: &Path) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, segment| match segment {
        Segment::Seq { index } => value.get_mut(index),
        Segment::Map { key } => value.get_mut(key),
        Segment::Enum { .. } | Segment::Unknown => None,
    })
}
