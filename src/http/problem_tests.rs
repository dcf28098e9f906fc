//! What a problem tells.

use super::*;

#[test]
fn the_database_words_stay_in_the_log() {
    let refusal = Refusal::from(StoreError::Unreachable("secret-host:5432 said no".into()));
    assert_eq!(refusal.0.status, 503);
    assert!(!refusal.0.detail.contains("secret-host"));
    let response = refusal.error_response();
    assert_eq!(response.headers().get("retry-after").unwrap(), "5");
    assert_eq!(
        response.headers().get("content-type").unwrap(),
        PROBLEM_JSON
    );
    let refusal = Refusal::from(StoreError::Internal("x".into()));
    assert_eq!(refusal.0.status, 500);
}

#[test]
fn errors_are_bounded() {
    let errors = (0..500)
        .map(|n| FieldError::new(format!("batches[{n}]"), "wrong"))
        .collect();
    let problem = Problem::invalid_fields(errors, 500);
    assert_eq!(problem.errors.len(), MOST_ERRORS);
    assert!(problem.detail.contains("500 fields"), "{}", problem.detail);
}
