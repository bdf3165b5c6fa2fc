//! A list of which a changed copy shares all but what changed: what worlds are made of.
//!
//! ```text
//! spine: Arc<[ ● ● ● ]>          a copy of the list is one count more
//!              │ └─▶ Arc<[T; N]>  a change copies the spine and one chunk, if somebody else holds them
//! ```

use std::ops::Index;
use std::sync::Arc;

/// A list in chunks of `N`, a power of two.
#[derive(Clone, Debug)]
pub struct Chunked<T, const N: usize> {
    spine: Arc<[Arc<[T]>]>,
    len: usize,
}

impl<T, const N: usize> Default for Chunked<T, N> {
    fn default() -> Self {
        Chunked { spine: Arc::default(), len: 0 }
    }
}

impl<T, const N: usize> Chunked<T, N> {
    /// The item at `at`.
    #[inline]
    pub fn get(&self, at: usize) -> Option<&T> {
        self.spine.get(at / N)?.get(at % N)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.spine.iter().flat_map(|chunk| chunk.iter())
    }

    /// The chunks that this list holds alone, for taking it apart piece by piece.
    pub fn into_chunks(self) -> Vec<Arc<[T]>> {
        // A spine that others hold keeps its chunks alive: nothing would be freed.
        match Arc::strong_count(&self.spine) {
            1 => self.spine.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }
}

/// As in a slice: `at` must be there.
impl<T, const N: usize> Index<usize> for Chunked<T, N> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        &self.spine[at / N][at % N]
    }
}

impl<T: Clone, const N: usize> Chunked<T, N> {
    /// Replaces the item at `at`, which must be there; others who share the list keep theirs.
    pub fn set(&mut self, at: usize, item: T) {
        if let Some(chunk) = Arc::make_mut(&mut self.spine).get_mut(at / N)
            && let Some(slot) = Arc::make_mut(chunk).get_mut(at % N)
        {
            *slot = item;
        }
    }
}

impl<T, const N: usize> FromIterator<T> for Chunked<T, N> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let (mut items, mut spine, mut len) = (items.into_iter(), Vec::new(), 0);
        loop {
            let chunk: Vec<T> = items.by_ref().take(N).collect();
            if chunk.is_empty() {
                return Chunked { spine: spine.into(), len };
            }
            len += chunk.len();
            spine.push(chunk.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_copy_shares_what_did_not_change() {
        for len in [0, 1, 3, 4, 5, 8, 17] {
            let before: Chunked<Arc<usize>, 4> = (0..len).map(Arc::new).collect();
            assert_eq!((before.len(), before.is_empty(), before.iter().map(|item| **item).collect::<Vec<_>>()), (len, len == 0, (0..len).collect()));
            assert!(before.get(len).is_none());
            for changed in 0..len {
                let mut after = before.clone();
                after.set(changed, Arc::new(99));
                for at in 0..len {
                    let (was, is) = (before.get(at).expect("an item"), after.get(at).expect("an item"));
                    assert_eq!((**was, **is), (at, if at == changed { 99 } else { at }));
                    assert_eq!(Arc::ptr_eq(was, is), at != changed);
                }
                let shared = before.spine.iter().zip(after.spine.iter()).filter(|(was, is)| Arc::ptr_eq(was, is)).count();
                assert_eq!(shared, before.spine.len() - 1, "one chunk is copied");
            }
            let mut after = before.clone();
            after.set(len, Arc::new(99));
            assert_eq!(after.len(), len, "nothing is added");
            assert!(before.clone().into_chunks().is_empty(), "shared");
        }
    }
}
