//! A file read without its holes. A segment is given its whole size when it is made; what was not written
//! yet is a hole to the file system, and need not be read, nor be kept in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// All bytes of the file; holes are zeros that take no memory until they are written to.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let mut at = 0;
    while let Some((from, to)) = next_data(&file, at)? {
        // It may have become shorter meanwhile, or longer: `length` is what counts.
        let (from, to) = (as_place(from, length), as_place(to, length));
        let Some(place) = bytes.get_mut(from..to).filter(|place| !place.is_empty()) else {
            break;
        };
        file.read_exact_at(place, from as u64)?;
        at = to as u64;
    }
    Ok(bytes)
}

fn as_place(offset: u64, length: usize) -> usize {
    usize::try_from(offset).unwrap_or(length).min(length)
}

/// Where the next bytes lie that were written. A file system that knows no holes says: all of it.
fn next_data(file: &File, at: u64) -> io::Result<Option<(u64, u64)>> {
    let from = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(from) => from,
        // Nothing but a hole follows.
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((at, u64::MAX))),
        Err(error) => return Err(error.into()),
    };
    match rustix::fs::seek(file, SeekFrom::Hole(from)) {
        Ok(to) => Ok(Some((from, to))),
        Err(_) => Ok(Some((from, u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_holes_is_read_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = File::create(&path).unwrap();
        let pieces: [(u64, &[u8]); 4] = [
            (0, b"start"),
            (70_000, b"middle"),
            (70_006, b"and more"),
            (300_000, b"end"),
        ];
        for length in [0, 70_003, 400_000] {
            for (at, bytes) in pieces {
                file.write_all_at(bytes, at).unwrap();
            }
            file.set_len(length).unwrap();
            assert_eq!(read(&path).unwrap(), std::fs::read(&path).unwrap());
        }
        assert!(read(&directory.path().join("no")).is_err());
    }
}
