//! The receiving half of the dialogue as a state machine without IO: commands in, replies out.
