//! The JSON Schemas of everything that `--format json` prints (draft 2020-12), by the name in a document's first key.

/// Name and text of every schema.
pub const ALL: [(&str, &str); 7] = [
    (
        "memscope.check/v1",
        include_str!("../../schemas/memscope.check.v1.schema.json"),
    ),
    (
        "memscope.diff/v1",
        include_str!("../../schemas/memscope.diff.v1.schema.json"),
    ),
    (
        "memscope.entries/v1",
        include_str!("../../schemas/memscope.entries.v1.schema.json"),
    ),
    (
        "memscope.list/v1",
        include_str!("../../schemas/memscope.list.v1.schema.json"),
    ),
    (
        "memscope.merge/v1",
        include_str!("../../schemas/memscope.merge.v1.schema.json"),
    ),
    (
        "memscope.report/v1",
        include_str!("../../schemas/memscope.report.v1.schema.json"),
    ),
    (
        "memscope.stats/v1",
        include_str!("../../schemas/memscope.stats.v1.schema.json"),
    ),
];

/// The text of a schema.
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

#[cfg(test)]
pub(crate) mod check {
    //! Holds output against the schemas, and the schemas against the output.

    use serde_json::Value;

    use super::text;

    /// Demands that a document is what the schema its first key names says, and has nothing that the schema does not know.
    pub(crate) fn document(document: &Value) {
        let mut schema = parsed(document["schema"].as_str().unwrap());
        close(&mut schema);
        demand(&schema, document);
    }

    /// Demands that every line of `--format ndjson` is what the schema says of lines.
    pub(crate) fn lines(name: &str, text: &str) {
        let mut schema = parsed(name);
        schema.as_object_mut().unwrap().retain(|key, _| key.starts_with('$'));
        schema["$ref"] = "#/$defs/line".into();
        for line in text.lines() {
            demand(&schema, &serde_json::from_str(line).unwrap());
        }
    }

    /// Whether a document is what a schema says.
    pub(crate) fn accepts(name: &str, document: &Value) -> bool {
        jsonschema::draft202012::new(&parsed(name)).unwrap().is_valid(document)
    }

    fn parsed(name: &str) -> Value {
        let text = text(name).unwrap_or_else(|| panic!("no schema of {name} is published"));
        serde_json::from_str(text).unwrap()
    }

    fn demand(schema: &Value, document: &Value) {
        let validator = jsonschema::draft202012::new(schema).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(document)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
    }

    /// Published schemas let fields be added; here none may be forgotten in them.
    fn close(schema: &mut Value) {
        match schema {
            Value::Object(keys) => {
                if keys.contains_key("properties") {
                    keys.insert("unevaluatedProperties".to_owned(), false.into());
                }
                let inner = keys
                    .iter_mut()
                    .filter(|(key, _)| !["line", "of_process"].contains(&key.as_str()));
                inner.for_each(|(_, value)| close(value));
            }
            Value::Array(values) => values.iter_mut().for_each(close),
            _ => {}
        }
    }
}
