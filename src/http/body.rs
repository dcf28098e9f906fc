//! Request bodies: read whole, bounded in size and time, and as JSON with
//! errors that name the field.

use super::problem::{Answer, FieldError, Problem, Refusal};
use actix_web::http::header;
use actix_web::{HttpRequest, web};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads a JSON body of at most `limit` bytes.
///
/// The media type must be JSON: a page of another site can make a browser
/// post a form here unasked, but no JSON.
pub(super) async fn read_json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: web::Payload,
    limit: usize,
) -> Answer<T> {
    check_json(request)?;
    let bytes = read_bytes(request, payload, limit).await?;
    parse_json(&bytes)
}

/// Refuses a body that is of another media type than JSON.
pub(super) fn check_json(request: &HttpRequest) -> Answer<()> {
    let essence = media_type(request);
    if essence != "application/json" && !essence.ends_with("+json") {
        return Err(not_json(&essence));
    }
    Ok(())
}

/// As [`read_json`], where the body may be left out.
pub(super) async fn read_json_or_nothing<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: web::Payload,
    limit: usize,
) -> Answer<Option<T>> {
    if media_type(request).is_empty() {
        let bytes = read_bytes(request, payload, limit).await?;
        return if bytes.is_empty() {
            Ok(None)
        } else {
            Err(not_json(""))
        };
    }
    read_json(request, payload, limit).await.map(Some)
}

fn not_json(essence: &str) -> Refusal {
    let told = if essence.is_empty() { "none" } else { essence };
    Problem::unsupported_media_type(format!(
        "the content type is {told}; send Content-Type: application/json"
    ))
    .into()
}

/// Media type of the body, in lower case and without parameters.
pub(super) fn media_type(request: &HttpRequest) -> String {
    request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn read_bytes(
    request: &HttpRequest,
    payload: web::Payload,
    limit: usize,
) -> Answer<web::Bytes> {
    let headers = request.headers();
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(Problem::unsupported_media_type(
            "compressed bodies are not taken; send it without Content-Encoding",
        )
        .into());
    }
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(Problem::body_too_large(limit).into());
    }
    match tokio::time::timeout(BODY_TIMEOUT, payload.to_bytes_limited(limit)).await {
        Ok(Ok(Ok(bytes))) => Ok(bytes),
        Ok(Ok(Err(_))) => Err(Problem::body_broken().into()),
        Ok(Err(_)) => Err(Problem::body_too_large(limit).into()),
        Err(_) => Err(Problem::body_timeout().into()),
    }
}

/// Reads JSON; the error names the field.
pub(super) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let field = path_at(bytes, error.line(), error.column());
        let message = error.to_string();
        let detail = if field.is_empty() {
            message.clone()
        } else {
            format!("{field}: {message}")
        };
        Problem::invalid_json(detail, FieldError::new(field, message)).into()
    })
}

/// Path (`batches[3].batch_id`) of the value that ends at `line` and `column`,
/// both counted from 1; `""` at the root. `serde_json` tells only the place.
fn path_at(json: &[u8], line: usize, column: usize) -> String {
    enum Frame {
        Object(Option<String>),
        Array(usize),
    }
    let line_start = match line {
        0 | 1 => 0,
        _ => json
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
            .nth(line - 2)
            .map_or(json.len(), |(at, _)| at + 1),
    };
    let end = line_start.saturating_add(column).min(json.len());
    let mut frames: Vec<Frame> = Vec::new();
    let mut key_wanted = false;
    let mut at = 0;
    while at < end {
        match json[at] {
            b'{' => {
                frames.push(Frame::Object(None));
                key_wanted = true;
            }
            b'[' => {
                frames.push(Frame::Array(0));
                key_wanted = false;
            }
            b'}' | b']' => {
                frames.pop();
                key_wanted = false;
            }
            b',' => match frames.last_mut() {
                Some(Frame::Array(index)) => *index += 1,
                Some(Frame::Object(key)) => {
                    *key = None;
                    key_wanted = true;
                }
                None => {}
            },
            b'"' => {
                let start = at;
                at += 1;
                while at < json.len() && json[at] != b'"' {
                    at += if json[at] == b'\\' { 2 } else { 1 };
                }
                if key_wanted && let Some(Frame::Object(key)) = frames.last_mut() {
                    let quoted = json.get(start..=at).unwrap_or_default();
                    *key = serde_json::from_slice(quoted).ok();
                    key_wanted = false;
                }
            }
            _ => {}
        }
        at += 1;
    }
    let mut path = String::new();
    for frame in frames.iter().take(16) {
        match frame {
            Frame::Array(index) => path.push_str(&format!("[{index}]")),
            Frame::Object(Some(key)) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.extend(key.chars().take(64));
            }
            Frame::Object(None) => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "batch_id")]
        _batch_id: String,
        #[serde(default, rename = "ids")]
        _ids: Vec<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "batches")]
        _batches: Vec<Inner>,
    }

    fn field_of(json: &str) -> String {
        let refusal = parse_json::<Outer>(json.as_bytes()).unwrap_err();
        assert_eq!(refusal.0.status, 400);
        refusal.0.errors[0].field.clone()
    }

    #[test]
    fn json_errors_name_the_field() {
        let good = r#"{"batch_id":"a,\"{["}"#;
        assert_eq!(
            field_of(&format!(r#"{{"batches":[{good},{{"batch_id":5}}]}}"#)),
            "batches[1].batch_id"
        );
        assert_eq!(
            field_of(&format!(
                "{{\n \"batches\": [{good},\n {{\"batch_id\":\"b\",\"ids\":[\"x\",7]}}]}}"
            )),
            "batches[1].ids[1]"
        );
        assert_eq!(
            field_of(r#"{"batches":[{"batchid":"x"}]}"#),
            "batches[0].batchid"
        );
        assert_eq!(field_of(r#"{"batches":[{}]}"#), "batches[0]");
        assert_eq!(field_of(r#"{"batches":7}"#), "batches");
        assert_eq!(field_of("[]"), "");
    }

    #[test]
    fn rubbish_is_survived() {
        for json in ["", "{", "{\"a", "\"\\", "nul", "]", "{\"batches\":[\u{0}"] {
            parse_json::<Outer>(json.as_bytes()).unwrap_err();
        }
        parse_json::<Outer>(&[0xff, b'{', 0xfe]).unwrap_err();
        let deep = "[".repeat(100_000);
        parse_json::<Outer>(deep.as_bytes()).unwrap_err();
    }
}
