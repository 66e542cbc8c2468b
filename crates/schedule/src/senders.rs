//! Who sends, as numbers: each stream of each sender has one as long as a job has it.

use std::collections::HashMap;
use std::sync::Arc;

/// One stream of one sender.
pub(crate) type StreamRef = u32;
pub(crate) type SenderRef = u32;

#[derive(Debug, Default)]
pub(crate) struct Senders {
    streams: Numbers<(SenderRef, Arc<str>)>,
    senders: Numbers<Arc<str>>,
}

impl Senders {
    pub(crate) fn intern(&mut self, sender: &Arc<str>, stream: &Arc<str>) -> StreamRef {
        let sender = self.senders.intern(Arc::clone(sender));
        self.streams.intern((sender, Arc::clone(stream)))
    }

    pub(crate) fn release(&mut self, stream: StreamRef) {
        self.senders.release(self.sender(stream));
        self.streams.release(stream);
    }

    pub(crate) fn sender(&self, stream: StreamRef) -> SenderRef {
        self.streams.names[stream as usize].0.0
    }
}

/// Names as numbers, counted: the last release frees the number.
#[derive(Debug)]
struct Numbers<N> {
    numbers: HashMap<N, u32>,
    names: Vec<(N, u32)>,
    free: Vec<u32>,
}

impl<N> Default for Numbers<N> {
    fn default() -> Numbers<N> {
        Numbers {
            numbers: HashMap::new(),
            names: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<N: Clone + Eq + std::hash::Hash> Numbers<N> {
    fn intern(&mut self, name: N) -> u32 {
        if let Some(&number) = self.numbers.get(&name) {
            self.names[number as usize].1 += 1;
            return number;
        }
        let number = match self.free.pop() {
            Some(number) => {
                self.names[number as usize] = (name.clone(), 1);
                number
            }
            None => {
                self.names.push((name.clone(), 1));
                u32::try_from(self.names.len() - 1).expect("memory ends before 2^32 names")
            }
        };
        self.numbers.insert(name, number);
        number
    }

    fn release(&mut self, number: u32) {
        let (name, uses) = &mut self.names[number as usize];
        *uses -= 1;
        if *uses == 0 {
            self.numbers.remove(name);
            self.free.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_for_one_stream_of_one_sender_until_the_last_job_is_gone() {
        let name = |text: &str| -> Arc<str> { Arc::from(text) };
        let mut senders = Senders::default();
        let news = senders.intern(&name("shop"), &name("news@"));
        let reset = senders.intern(&name("shop"), &name("reset@"));
        let other = senders.intern(&name("blog"), &name("news@"));
        assert_eq!(senders.intern(&name("shop"), &name("news@")), news);
        assert!(news != reset && news != other);
        assert_eq!(senders.sender(news), senders.sender(reset));
        assert_ne!(senders.sender(news), senders.sender(other));
        senders.release(news);
        senders.release(other);
        let next = senders.intern(&name("third"), &name("x@"));
        assert_eq!(next, other, "its number is free");
        assert_eq!(senders.intern(&name("shop"), &name("news@")), news);
    }
}
