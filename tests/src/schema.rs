//! Output held against the JSON Schemas that the command publishes (`memscope-user/schemas/`).

use serde_json::Value;

use crate::program::folder;

/// Demands that a document is what the schema its first key names says.
///
/// # Panics
/// It is not, or no such schema is published.
pub fn assert_document(text: &str) {
    let document: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"));
    let name = document["schema"].as_str().expect("a document names its schema first");
    assert!(text.starts_with(&format!("{{\"schema\":\"{name}\"")), "{text}");
    demand(&published(name), &document);
}

/// Demands that every line is what a schema says of the lines of `--format ndjson`; gives how many there are.
///
/// # Panics
/// One is not.
pub fn assert_lines(name: &str, text: &str) -> usize {
    let mut schema = published(name);
    let keys = schema.as_object_mut().expect("a schema is an object");
    keys.retain(|key, _| key.starts_with('$'));
    keys.insert("$ref".to_owned(), "#/$defs/line".into());
    for line in text.lines() {
        let line = serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}"));
        demand(&schema, &line);
    }
    text.lines().count()
}

fn published(name: &str) -> Value {
    let file = format!("../memscope-user/schemas/{}.schema.json", name.replace('/', "."));
    let path = folder().join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("a schema is JSON")
}

fn demand(schema: &Value, document: &Value) {
    let validator = jsonschema::draft202012::new(schema).expect("a schema is one");
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|error| format!("{error} at {}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
}
