//! The dispatcher with scripted sessions.
