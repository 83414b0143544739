//! Which bodies of the pool are free: the publisher's private books. No word in shared memory decides.
//!
//! A body is free, in the one loan, in an entry, or *retired*: an entry has let go of it, and a reader may hold it
//! still. Retired ones are looked through when there are `rest` more of them than were held at the last look, so that
//! the pages in use are those of a few bodies more than are needed, and not of the whole pool: the free ones are a
//! stack. So what is written next lies in the processor's cache more often, too.

/// The books of one pool.
#[derive(Debug)]
pub struct Pool {
    free: Vec<u32>,
    retired: Vec<u32>,
    /// By entry: its body's index plus one, or 0.
    placed: Vec<u32>,
    /// Scratch: which bodies are held.
    is_held: Vec<bool>,
    /// How many of the retired ones were held at the last look.
    held: usize,
}

/// How many retired bodies may rest beside those that readers hold, before they are looked through: many, so that a
/// look at all holds is shared by many messages; few where bodies are large, and none where a look costs little beside
/// the writing of one.
pub fn rest(body_stride: usize, readers: usize, holds: usize) -> usize {
    const RESTING_BYTES: usize = 1 << 20;
    /// To look at a hold costs 50 to 100 ns if its reader has changed it, about as much as to write 1 KiB.
    const BYTES_PER_HOLD: usize = 16 << 10;
    match RESTING_BYTES / body_stride.max(1) {
        few @ 0..8 => (holds / (body_stride / BYTES_PER_HOLD)).min(few.max(2)),
        many => readers.clamp(8, many),
    }
}

impl Pool {
    /// All of them free.
    pub fn new(bodies: usize, entries: usize) -> Pool {
        Pool {
            free: (0..bodies as u32).rev().collect(),
            retired: Vec::with_capacity(bodies),
            placed: vec![0; entries],
            is_held: vec![false; bodies],
            held: 0,
        }
    }

    /// A free one, for a loan.
    #[inline(always)]
    pub fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// A loan was dropped: nobody has seen its body.
    #[inline(always)]
    pub fn give_back(&mut self, body: u32) {
        self.free.push(body);
    }

    /// An entry has a new message, with that body's index plus one, or 0: what it had is retired.
    #[inline(always)]
    pub fn place(&mut self, entry: usize, body: u32) {
        let before = std::mem::replace(&mut self.placed[entry], body);
        if before != 0 {
            self.retired.push(before - 1);
        }
    }

    /// The body of a message that lies in an entry is retired before the next message comes. Whether it has one.
    #[inline(always)]
    pub fn release(&mut self, entry: usize) -> bool {
        let has_body = self.placed[entry] != 0;
        self.place(entry, 0);
        has_body
    }

    /// Whether the retired ones are to be looked through before the next loan.
    #[inline(always)]
    pub fn wants_scan(&self, rest: usize) -> bool {
        self.retired.len() > self.held + rest || self.free.is_empty() && !self.retired.is_empty()
    }

    /// Those retired ones are free that are not among the held: what the hold words say, any number.
    pub fn reclaim(&mut self, held: impl Iterator<Item = u64>) {
        let of_word = |word: u64| usize::try_from(word).ok()?.checked_sub(1);
        let mut marked = Vec::new();
        for body in held.filter_map(of_word) {
            if let Some(is_held) = self.is_held.get_mut(body) {
                *is_held = true;
                marked.push(body);
            }
        }
        let (is_held, free) = (&self.is_held, &mut self.free);
        self.retired.retain(|&body| {
            let stays = is_held[body as usize];
            if !stays {
                free.push(body);
            }
            stays
        });
        self.held = self.retired.len();
        marked.into_iter().for_each(|body| self.is_held[body] = false);
    }

    /// How many are retired.
    #[cfg(test)]
    fn retired(&self) -> usize {
        self.retired.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_stays_and_everything_else_comes_back() {
        let mut pool = Pool::new(4, 2);
        for entry in [0, 1, 0] {
            let body = pool.take().unwrap();
            pool.place(entry, body + 1);
        }
        assert_eq!((pool.retired(), pool.free.len()), (1, 1));
        assert!(pool.wants_scan(0) && !pool.wants_scan(1));
        pool.reclaim([0, 1, 77, u64::MAX].into_iter());
        assert_eq!((pool.retired(), pool.free.len()), (1, 1), "body 0 is held");
        assert!(!pool.wants_scan(0), "nothing came since to the one that is held");
        pool.reclaim([2].into_iter());
        assert_eq!((pool.retired(), pool.free.len()), (0, 2), "body 1 is in its entry, and held besides");
        pool.place(1, 0);
        pool.reclaim([2].into_iter());
        assert_eq!((pool.retired(), pool.take(), pool.take(), pool.take()), (1, Some(0), Some(3), None));
        assert!(pool.wants_scan(9), "there is none left");
    }

    #[test]
    fn a_dropped_loan_gives_its_body_back() {
        let mut pool = Pool::new(1, 2);
        let body = pool.take().unwrap();
        assert_eq!(pool.take(), None);
        pool.give_back(body);
        assert_eq!(pool.take(), Some(0));
    }

    #[test]
    fn few_large_bodies_rest_and_many_small_ones() {
        assert_eq!(
            [(64, 1), (64, 100), (4096, 1000), (128 << 10, 100), (1 << 20, 100), (1 << 20, 4), (1 << 30, 9)]
                .map(|(stride, readers)| rest(stride, readers, 4 * readers)),
            [8, 100, 256, 8, 2, 0, 0]
        );
    }

    #[test]
    fn a_message_that_is_released_gives_its_body_once() {
        let mut pool = Pool::new(3, 2);
        let body = pool.take().unwrap();
        pool.place(1, body + 1);
        assert_eq!((pool.release(0), pool.release(1), pool.release(1), pool.retired()), (false, true, false, 1));
        pool.reclaim([].into_iter());
        assert_eq!(pool.take(), Some(body), "the one that was written last is the first to be written again");
        pool.place(1, body + 1);
        assert_eq!(pool.retired(), 0);
    }
}
