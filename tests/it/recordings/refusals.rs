//! Recorded refusals, and what each is read as.

/// What is expected of a recording whose status is not 200: the word of the
/// error, and something that its text must say.
pub(super) const REFUSALS: &[(&str, &str, &str)] = &[
    (
        "sawtooth/real_get_wait_0_pending_503",
        "server_error",
        "Validator Timed Out",
    ),
    (
        "sawtooth/stub_get_64_ids_line_too_long",
        "too_large",
        "8190 bytes (8274)",
    ),
    (
        "sawtooth/stub_get_empty_id",
        "refused_ids",
        "Invalid Resource Id",
    ),
    (
        "sawtooth/stub_get_malformed_id",
        "refused_ids",
        "was invalid: abc",
    ),
    ("sawtooth/stub_get_missing_id", "rejected", "code 66"),
    ("sawtooth/stub_get_trailing_comma", "refused_ids", "code 60"),
    (
        "sawtooth/stub_get_unknown_path",
        "not_found",
        "404: Not Found",
    ),
    ("sawtooth/stub_get_uppercase_id", "refused_ids", "0AD61BCB"),
    (
        "sawtooth/stub_get_validator_disconnected_503",
        "server_error",
        "503: Validator Disconnected",
    ),
    (
        "sawtooth/stub_get_validator_down_0",
        "server_error",
        "code 17",
    ),
    (
        "sawtooth/stub_get_validator_down_3",
        "server_error",
        "code 17",
    ),
    (
        "sawtooth/stub_get_validator_garbage",
        "server_error",
        "500: Invalid Validator Response",
    ),
    (
        "sawtooth/stub_get_validator_internal_error",
        "server_error",
        "code 10",
    ),
    (
        "sawtooth/stub_get_validator_no_resource",
        "server_error",
        "code 27",
    ),
    (
        "sawtooth/stub_get_validator_timeout_503",
        "server_error",
        "code 17",
    ),
    (
        "sawtooth/stub_get_wait_longer_than_api_timeout_503",
        "server_error",
        "code 17",
    ),
    ("sawtooth/stub_post_bad_content_type", "rejected", "code 43"),
    (
        "sawtooth/stub_post_content_type_with_charset",
        "rejected",
        "code 43",
    ),
    ("sawtooth/stub_post_empty_array", "rejected", "code 46"),
    (
        "sawtooth/stub_post_empty_body",
        "server_error",
        "500 Internal Server Error",
    ),
    ("sawtooth/stub_post_malformed_id", "refused_ids", "code 60"),
    (
        "sawtooth/stub_post_no_content_type",
        "server_error",
        "500 Internal Server Error",
    ),
    (
        "sawtooth/stub_post_not_json",
        "server_error",
        "500 Internal Server Error",
    ),
    ("sawtooth/stub_post_object_body", "rejected", "code 46"),
    ("sawtooth/stub_post_too_large_413", "too_large", "10485760"),
    (
        "sawtooth/stub_post_validator_down",
        "server_error",
        "code 17",
    ),
    ("sawtooth/stub_put_method_not_allowed", "rejected", "405"),
    (
        "splinter/batch_statuses_508_ids_url_too_long",
        "too_large",
        "Bad Request",
    ),
    (
        "splinter/batch_statuses_bad_token",
        "unauthorized",
        "Client is not authorized",
    ),
    (
        "splinter/batch_statuses_basic_auth",
        "unauthorized",
        "token_file",
    ),
    (
        "splinter/batch_statuses_bearer_without_cylinder_prefix",
        "unauthorized",
        "401",
    ),
    (
        "splinter/batch_statuses_head_method",
        "not_found",
        "Not Found",
    ),
    (
        "splinter/batch_statuses_malformed_circuit",
        "not_found",
        "service y on circuit x",
    ),
    (
        "splinter/batch_statuses_missing_ids",
        "rejected",
        "No batch IDs specified",
    ),
    (
        "splinter/batch_statuses_missing_ids_with_wait",
        "rejected",
        "No batch IDs specified",
    ),
    (
        "splinter/batch_statuses_no_auth",
        "unauthorized",
        "Client is not authorized",
    ),
    (
        "splinter/batch_statuses_post_method",
        "not_found",
        "endpoint not found",
    ),
    (
        "splinter/batch_statuses_protocol_0",
        "rejected",
        "protocol version 1 or greater",
    ),
    (
        "splinter/batch_statuses_protocol_2",
        "rejected",
        "requires a newer protocol",
    ),
    (
        "splinter/batch_statuses_protocol_text",
        "rejected",
        "SplinterProtocolVersion",
    ),
    (
        "splinter/batch_statuses_service_of_other_node",
        "not_found",
        "service b000 on circuit",
    ),
    (
        "splinter/batch_statuses_trailing_slash",
        "not_found",
        "endpoint not found",
    ),
    (
        "splinter/batch_statuses_unknown_circuit",
        "not_found",
        "circuit ZZZZZ-ZZZZZ not found",
    ),
    (
        "splinter/batch_statuses_unknown_service",
        "not_found",
        "service zzzz",
    ),
    (
        "splinter/batch_statuses_valid_token_not_permitted",
        "unauthorized",
        "401",
    ),
    (
        "splinter/batch_statuses_wait_overflow",
        "server_error",
        "encountered an error",
    ),
    (
        "splinter/batch_statuses_wrong_path",
        "not_found",
        "endpoint not found",
    ),
    (
        "splinter/unknown_circuit_no_auth",
        "unauthorized",
        "Client is not authorized",
    ),
];
