//! What an operation reads of the address and of the headers.

use serde_json::{Value, json};

/// One parameter.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    place: &'static str,
    name: &'static str,
    about: &'static str,
    schema: Value,
    is_required: bool,
    example: Option<Value>,
}

impl Parameter {
    fn new(place: &'static str, name: &'static str, about: &'static str, schema: Value) -> Self {
        Self {
            place,
            name,
            about,
            schema,
            is_required: place == "path",
            example: None,
        }
    }

    /// A part of the address.
    pub(crate) fn path(name: &'static str, about: &'static str, schema: Value) -> Self {
        Self::new("path", name, about, schema)
    }

    /// A part of the query; it may be left out, unless it is required.
    pub(crate) fn query(name: &'static str, about: &'static str, schema: Value) -> Self {
        Self::new("query", name, about, schema)
    }

    /// A header; it may be left out.
    pub(crate) fn header(name: &'static str, about: &'static str, schema: Value) -> Self {
        Self::new("header", name, about, schema)
    }

    /// Which must be there.
    pub(crate) fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    /// With an example.
    pub(crate) fn example(mut self, example: impl Into<Value>) -> Self {
        self.example = Some(example.into());
        self
    }

    pub(super) fn is_in_path(&self) -> bool {
        self.place == "path"
    }

    pub(super) fn described(&self) -> Value {
        let mut said = json!({
            "name": self.name,
            "in": self.place,
            "required": self.is_required,
            "description": self.about,
            "schema": self.schema,
        });
        if let Some(example) = &self.example {
            said["example"] = example.clone();
        }
        said
    }
}
