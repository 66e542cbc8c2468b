//! What a decision works in. Each thread keeps its own from one decision to the next, so a decision allocates nothing.

use std::cell::Cell;

use crate::bits::Bits;
use crate::texts::Marks;

#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The text of the reply, as rules see it.
    pub text: String,
    pub marks: Marks,
    /// The rules that are worth a closer look.
    pub rules: Bits,
}

/// A text beyond this is not kept: one reply of many long lines must not cost each thread its size for good.
const TEXT_BYTES_KEPT: usize = 16 * 1024;

thread_local! {
    static KEPT: Cell<Memory> = Cell::default();
}

impl Memory {
    /// What this thread has kept. Nobody else has it until `keep`: a decision within a decision would get new memory.
    pub fn take() -> Memory {
        KEPT.take()
    }

    pub fn keep(mut self) {
        if self.text.capacity() > TEXT_BYTES_KEPT {
            self.text = String::new();
        }
        KEPT.set(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_but_that_of_a_very_long_reply_is_given_back() {
        let kept = |bytes| {
            let mut memory = Memory::take();
            memory.text = "x".repeat(bytes);
            memory.keep();
            let memory = Memory::take();
            let kept = memory.text.capacity();
            memory.keep();
            kept
        };
        assert!(kept(500) >= 500);
        assert_eq!(kept(TEXT_BYTES_KEPT + 1), 0);
    }
}
