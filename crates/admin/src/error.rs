//! Refusals of the API: a status code and a sentence, as JSON.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use relay_queue::StoreError;

use crate::view::ErrorView;

/// What a handler answers instead of its view.
#[derive(Debug)]
pub enum ApiError {
    /// The request makes no sense: 400.
    Bad(String),
    /// 404
    NotFound(String),
    /// 413
    TooLarge(String),
    /// The configuration was refused; the old one stays: 422.
    Refused(Vec<String>),
    /// The history's files: 503.
    Unreadable(String),
    /// The queue did not take it: 503, or 507 where it is full.
    Store(StoreError),
    /// A file did not take it: 503.
    Disk(String),
}

impl ApiError {
    /// For those who do not ask over HTTP.
    pub fn words(self) -> String {
        match self {
            ApiError::Bad(words)
            | ApiError::NotFound(words)
            | ApiError::TooLarge(words)
            | ApiError::Unreadable(words)
            | ApiError::Disk(words) => words,
            ApiError::Refused(mistakes) => mistakes.join("; "),
            ApiError::Store(error) => error.to_string(),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        ApiError::Store(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, error, mistakes) = match self {
            ApiError::Bad(words) => (StatusCode::BAD_REQUEST, words, Vec::new()),
            ApiError::NotFound(words) => (StatusCode::NOT_FOUND, words, Vec::new()),
            ApiError::Unreadable(words) => (StatusCode::SERVICE_UNAVAILABLE, words, Vec::new()),
            ApiError::TooLarge(words) => (StatusCode::PAYLOAD_TOO_LARGE, words, Vec::new()),
            ApiError::Refused(mistakes) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "the configuration has mistakes; the old one stays in force".to_owned(),
                mistakes,
            ),
            ApiError::Disk(words) => (StatusCode::SERVICE_UNAVAILABLE, words, Vec::new()),
            ApiError::Store(error) => {
                let status = match error {
                    StoreError::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
                    StoreError::Unknown(_) => StatusCode::NOT_FOUND,
                    StoreError::Disk(_)
                    | StoreError::Busy
                    | StoreError::Stopped(_)
                    | StoreError::Taken(_) => StatusCode::SERVICE_UNAVAILABLE,
                };
                (status, error.to_string(), Vec::new())
            }
        };
        (status, Json(ErrorView { error, mistakes })).into_response()
    }
}
