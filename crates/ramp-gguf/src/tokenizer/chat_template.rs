//! The chat template of a Hugging Face folder.

use serde_json::Value;

use crate::{Error, Result};

/// The template that `tokenizer_config.json` has under `chat_template`: a text, or one of several with names, of
/// which the one called `default` is taken. `None` when there is none.
///
/// A folder with a file `chat_template.jinja` has its template there instead, as it is.
///
/// ```
/// use ramp_gguf::chat_template;
/// let config = serde_json::json!({"chat_template": [
///     {"name": "tool_use", "template": "{{ tools }}"},
///     {"name": "default", "template": "{{ messages }}"},
/// ]});
/// assert_eq!(chat_template(&config)?, Some("{{ messages }}"));
/// # Ok::<(), ramp_gguf::Error>(())
/// ```
///
/// # Errors
/// [`Error::ChatTemplate`] for anything else under the key, and for several templates without a default.
pub fn chat_template(tokenizer_config: &Value) -> Result<Option<&str>> {
    let error = |reason: &str| Error::ChatTemplate { reason: reason.to_owned() };
    match tokenizer_config.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(template)) => Ok(Some(template)),
        Some(Value::Array(templates)) => {
            let default = templates
                .iter()
                .find(|template| template.get("name").and_then(Value::as_str) == Some("default"))
                .ok_or_else(|| error("no chat template is called `default`"))?;
            let text = default.get("template").and_then(Value::as_str);
            text.map(Some).ok_or_else(|| error("the default chat template is not a text"))
        }
        Some(_) => Err(error("chat_template is neither a text nor a list")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forms_of_a_template() {
        assert_eq!(chat_template(&json!({})).unwrap(), None);
        assert_eq!(chat_template(&json!({"chat_template": null})).unwrap(), None);
        assert_eq!(chat_template(&json!({"chat_template": "a"})).unwrap(), Some("a"));
        for (config, expected) in [
            (json!([]), "no chat template is called `default`"),
            (json!([{"name": "default", "template": 1}]), "the default chat template is not a text"),
            (json!(7), "chat_template is neither a text nor a list"),
        ] {
            let error = chat_template(&json!({ "chat_template": config })).unwrap_err();
            assert_eq!(error.to_string(), format!("tokenizer_config.json: {expected}"));
        }
    }
}
