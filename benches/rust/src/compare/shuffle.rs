//! The order of a round: shuffled, so that nobody always follows the same neighbour, and the same for a seed.

/// A generator of the splitmix64 kind.
#[derive(Debug)]
pub(super) struct Shuffle(u64);

impl Shuffle {
    /// The same seed gives the same orders.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Puts `items` into a new order.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = usize::try_from(self.next() % (at as u64 + 1)).unwrap_or(0);
            items.swap(at, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_order_and_every_place_is_taken_by_everyone() {
        let order = |seed| {
            let mut items = [0, 1, 2, 3, 4];
            Shuffle::new(seed).shuffle(&mut items);
            items
        };
        assert_eq!(order(7), order(7));
        let mut firsts: Vec<i32> = (0..100).map(|seed| order(seed)[0]).collect();
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts, [0, 1, 2, 3, 4]);
    }
}
