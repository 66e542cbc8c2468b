//! The sending half of the dialogue as a state machine without IO: replies in, commands out.
