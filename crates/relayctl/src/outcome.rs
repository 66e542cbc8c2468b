//! How a command ended, and the exit status that says so to scripts.

use std::process::ExitCode;

/// What a command that could be carried out found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// 0
    Well,
    /// 1; what is not well has been printed already.
    NotWell,
}

/// Why a command could not be carried out. The text names the fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// 1: nothing matched, relayd refused, a file could not be read.
    NotWell(String),
    /// 2
    Usage(String),
    /// 69, EX_UNAVAILABLE of sysexits.h.
    Unreachable(String),
    /// 78, EX_CONFIG of sysexits.h.
    Configuration(String),
}

pub type Outcome = Result<Done, Trouble>;

impl Trouble {
    pub fn status(&self) -> u8 {
        match self {
            Trouble::NotWell(_) => 1,
            Trouble::Usage(_) => 2,
            Trouble::Unreachable(_) => 69,
            Trouble::Configuration(_) => 78,
        }
    }

    pub fn words(&self) -> &str {
        match self {
            Trouble::NotWell(words)
            | Trouble::Usage(words)
            | Trouble::Unreachable(words)
            | Trouble::Configuration(words) => words,
        }
    }
}

/// Tells the trouble, if any, and makes the exit status.
pub fn exit(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(Done::Well) => ExitCode::SUCCESS,
        Ok(Done::NotWell) => ExitCode::from(1),
        Err(trouble) => {
            eprintln!("relayctl: {}", trouble.words());
            ExitCode::from(trouble.status())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_has_the_exit_status_of_the_contract() {
        let words = String::new;
        assert_eq!(Trouble::NotWell(words()).status(), 1);
        assert_eq!(Trouble::Usage(words()).status(), 2);
        assert_eq!(Trouble::Unreachable(words()).status(), 69);
        assert_eq!(Trouble::Configuration(words()).status(), 78);
    }
}
