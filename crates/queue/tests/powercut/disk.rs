//! A model of a disk: what a power cut leaves of the actions of a recording.
//!
//! A file's bytes and its size last once the file was synced, a name once its directory was (a rename over
//! two directories: both). Of the rest each piece lasts or does not, whatever came before or after it: a write
//! as a whole, torn into sectors of 512 bytes, or not at all, and apart from it the size that it led to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::record::{Action, Name, Node, Recording, Size};

/// A disk writes so much or nothing.
const SECTOR: usize = 512;

/// What lasts of the unsynced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Nothing,
    /// Each piece by chance.
    Half,
    /// Names, but not what is in the files: a file system that writes its own data first.
    Names,
    /// What is in the files, but no names.
    Bytes,
    /// As after a kill: no power cut at all.
    Everything,
}

/// Decides for each unsynced piece.
pub struct Fate {
    pub mode: Mode,
    rng: StdRng,
}

impl Fate {
    pub fn new(mode: Mode, seed: u64) -> Fate {
        let rng = StdRng::seed_from_u64(seed);
        Fate { mode, rng }
    }

    fn name_lasts(&mut self) -> bool {
        match self.mode {
            Mode::Nothing | Mode::Bytes => false,
            Mode::Half => self.rng.random(),
            Mode::Names | Mode::Everything => true,
        }
    }

    fn bytes_last(&mut self) -> bool {
        match self.mode {
            Mode::Nothing | Mode::Names => false,
            Mode::Half => self.rng.random(),
            Mode::Bytes | Mode::Everything => true,
        }
    }

    /// The parts of a write that last.
    fn sectors(&mut self, at: u64, bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
        if !self.bytes_last() {
            return Vec::new();
        }
        let whole = std::iter::once(0..bytes.len()).collect();
        if self.mode != Mode::Half || self.rng.random() {
            return whole;
        }
        let first = SECTOR - at as usize % SECTOR;
        let ends = (first..bytes.len()).step_by(SECTOR).chain([bytes.len()]);
        let starts = std::iter::once(0).chain((first..bytes.len()).step_by(SECTOR));
        let sectors = starts.zip(ends).map(|(start, end)| start..end);
        sectors.filter(|_| self.rng.random()).collect()
    }
}

/// Files and directories by their names; None: a directory.
pub type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Whether syncs of a file with that first name are left out.
pub type Forgotten = fn(&Path) -> bool;

/// The disk after some of the actions.
pub struct Disk<'a> {
    recording: &'a Recording,
    /// So many actions were done.
    done: usize,
    files: HashMap<Node, File<'a>>,
    names: Vec<Naming>,
    /// Syncs of these are left out, to see whether anybody notices.
    forgotten: Forgotten,
}

#[derive(Clone, Default)]
struct File<'a> {
    synced: Vec<u8>,
    unsynced: Vec<&'a Action>,
}

/// A change of names.
#[derive(Clone)]
struct Naming {
    unsynced: HashSet<Node>,
    remove: Option<Name>,
    put: Option<(Name, Node)>,
}

impl<'a> Disk<'a> {
    pub fn new(recording: &'a Recording) -> Disk<'a> {
        Disk::forgetting(recording, |_| false)
    }

    /// A disk that forgets to sync files with certain first names.
    pub fn forgetting(recording: &'a Recording, forgotten: Forgotten) -> Disk<'a> {
        let mut disk = Disk {
            recording,
            done: 0,
            files: HashMap::new(),
            names: Vec::new(),
            forgotten,
        };
        for found in &recording.found {
            disk.names.push(Naming {
                unsynced: HashSet::new(),
                remove: None,
                put: Some((found.at.clone(), found.node)),
            });
            if let Some(bytes) = &found.bytes {
                disk.files.entry(found.node).or_default().synced = bytes.clone();
            }
        }
        disk
    }

    /// Goes on until so many actions are done.
    pub fn advance(&mut self, to: usize) {
        let recording = self.recording;
        for action in recording.actions.get(self.done..to).unwrap_or_default() {
            match action {
                Action::Make(name, node) => self.rename(None, Some((name.clone(), *node))),
                Action::Remove(name) => self.rename(Some(name.clone()), None),
                Action::Rename(from, to, node) => {
                    self.rename(Some(from.clone()), Some((to.clone(), *node)));
                }
                Action::Write(node, ..) | Action::Resize(node, _) => {
                    self.files.entry(*node).or_default().unsynced.push(action);
                }
                Action::Sync(node) => self.sync(*node),
            }
        }
        self.done = to;
    }

    fn rename(&mut self, remove: Option<Name>, put: Option<(Name, Node)>) {
        let names = remove.iter().chain(put.iter().map(|(name, _)| name));
        self.names.push(Naming {
            unsynced: names.map(|name| name.directory).collect(),
            remove,
            put,
        });
    }

    fn sync(&mut self, node: Node) {
        let first_name = self.recording.names.get(node);
        if first_name.is_some_and(|name| (self.forgotten)(name)) {
            return;
        }
        for naming in &mut self.names {
            naming.unsynced.remove(&node);
        }
        if let Some(file) = self.files.get_mut(&node) {
            let mut everything = Fate::new(Mode::Everything, 0);
            file.synced = file.after_cut(&mut everything);
            file.unsynced.clear();
        }
    }

    /// What is found when the power is back.
    pub fn after_cut(&self, fate: &mut Fate) -> Tree {
        let mut directories: BTreeMap<Node, BTreeMap<&OsString, Node>> = BTreeMap::new();
        for naming in &self.names {
            if !naming.unsynced.is_empty() && !fate.name_lasts() {
                continue;
            }
            if let Some(name) = &naming.remove {
                let directory = directories.entry(name.directory).or_default();
                directory.remove(&name.name);
            }
            if let Some((name, node)) = &naming.put {
                let directory = directories.entry(name.directory).or_default();
                directory.insert(&name.name, *node);
            }
        }
        let mut tree = Tree::new();
        let mut left = vec![(PathBuf::new(), 0)];
        while let Some((path, directory)) = left.pop() {
            for (name, node) in directories.get(&directory).into_iter().flatten() {
                let path = path.join(name);
                let file = self.files.get(node);
                let bytes = match self.recording.directories.contains(node) {
                    true => None,
                    false => Some(file.map(|file| file.after_cut(fate)).unwrap_or_default()),
                };
                tree.insert(path.clone(), bytes);
                left.push((path, *node));
            }
        }
        tree
    }
}

impl File<'_> {
    fn after_cut(&self, fate: &mut Fate) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        let mut size = bytes.len();
        for action in &self.unsynced {
            match action {
                Action::Write(_, at, written) => {
                    let start = *at as usize;
                    for part in fate.sectors(*at, written) {
                        let target = start + part.start..start + part.end;
                        bytes.resize(bytes.len().max(target.end), 0);
                        bytes[target].copy_from_slice(&written[part]);
                    }
                    let end = start + written.len();
                    if end > size && fate.bytes_last() {
                        size = end;
                    }
                }
                Action::Resize(_, Size::Exactly(exactly)) => {
                    if fate.bytes_last() {
                        size = *exactly as usize;
                        bytes.truncate(size);
                    }
                }
                Action::Resize(_, Size::AtLeast(least)) => {
                    if *least as usize > size && fate.bytes_last() {
                        size = *least as usize;
                    }
                }
                Action::Make(..) | Action::Remove(_) | Action::Rename(..) | Action::Sync(_) => {}
            }
        }
        bytes.resize(size, 0);
        bytes
    }
}

/// Puts a tree into an empty directory.
pub fn restore(tree: &Tree, root: &Path) {
    for (path, bytes) in tree {
        let path = root.join(path);
        match bytes {
            None => std::fs::create_dir(path).unwrap(),
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
        }
    }
}

/// The tree that a directory has.
pub fn tree_of(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(root).unwrap().to_owned();
            if path.is_dir() {
                tree.insert(below, None);
                left.push(path);
            } else {
                tree.insert(below, Some(std::fs::read(path).unwrap()));
            }
        }
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(directory: Node, name: &str) -> Name {
        Name {
            directory,
            name: name.into(),
        }
    }

    /// `a` with 2000 bytes and a second name for it, in the directory itself.
    fn recording(synced: &[usize]) -> Recording {
        let mut actions = vec![
            Action::Make(name(0, "a"), 1),
            Action::Write(1, 100, vec![7; 2000]),
            Action::Rename(name(0, "a"), name(0, "b"), 1),
        ];
        actions.extend(synced.iter().map(|node| Action::Sync(*node)));
        Recording {
            actions,
            names: vec!["".into(), "a".into()],
            directories: HashSet::from([0]),
            ..Recording::default()
        }
    }

    fn cut(recording: &Recording, mode: Mode, seed: u64) -> Tree {
        let mut disk = Disk::new(recording);
        disk.advance(recording.actions.len());
        disk.after_cut(&mut Fate::new(mode, seed))
    }

    fn bytes(size: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; size];
        bytes
            .get_mut(100..)
            .into_iter()
            .for_each(|rest| rest.fill(7));
        Some(bytes)
    }

    #[test]
    fn nothing_is_left_but_what_was_synced() {
        let tree = |synced: &[usize]| cut(&recording(synced), Mode::Nothing, 0);
        assert_eq!(tree(&[]), Tree::new());
        assert_eq!(tree(&[1]), Tree::new());
        assert_eq!(tree(&[0]), Tree::from([("b".into(), Some(Vec::new()))]));
        assert_eq!(tree(&[0, 1]), Tree::from([("b".into(), bytes(2100))]));
    }

    #[test]
    fn names_and_bytes_last_apart_from_each_other() {
        let named = cut(&recording(&[]), Mode::Names, 0);
        assert_eq!(named, Tree::from([("b".into(), Some(Vec::new()))]));
        assert_eq!(cut(&recording(&[]), Mode::Bytes, 0), Tree::new());
        let both = cut(&recording(&[]), Mode::Everything, 0);
        assert_eq!(both, Tree::from([("b".into(), bytes(2100))]));
    }

    #[test]
    fn what_lasts_by_chance_is_torn_at_sectors_and_its_size_may_be_missing() {
        let mut seen = HashSet::new();
        for seed in 0..20_000 {
            for (path, bytes) in cut(&recording(&[]), Mode::Half, seed) {
                let bytes = bytes.unwrap();
                assert!([0, 2100].contains(&bytes.len()));
                let written = |at: usize| bytes.get(at) == Some(&7);
                for sector in 0..4 {
                    // All of a sector or nothing; the first 100 bytes of all were never written.
                    let start = (sector * SECTOR).max(100);
                    assert_eq!(written(start), written(sector * SECTOR + SECTOR - 1));
                }
                seen.insert((path, [100, 512, 1024, 1536, 2048].map(written)));
            }
        }
        // Both names, all of the 32 ways to be torn.
        assert_eq!(seen.len(), 64);
    }

    #[test]
    fn a_sync_that_is_forgotten_promises_nothing() {
        let recording = recording(&[0, 1]);
        let mut disk = Disk::forgetting(&recording, |name| name.ends_with("a"));
        disk.advance(recording.actions.len());
        let tree = disk.after_cut(&mut Fate::new(Mode::Nothing, 0));
        assert_eq!(tree, Tree::from([("b".into(), Some(Vec::new()))]));
    }
}
