//! Repeatable choices.

use meridian::answer::Dice;

/// A seeded source of choices.
pub struct Chance(Dice);

impl Chance {
    /// Everything follows from the two numbers.
    pub fn new(seed: u64, stream: u64) -> Chance {
        let mut dice = Dice::new(0, seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        dice.roll();
        Chance(dice)
    }

    /// 0 to `end` − 1.
    pub fn below(&mut self, end: usize) -> usize {
        (self.0.roll() % end as u64) as usize
    }

    /// `from` to `to`, both included.
    pub fn within(&mut self, from: usize, to: usize) -> usize {
        from + self.below(to - from + 1)
    }

    /// True so many times of a hundred.
    pub fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }

    /// One of these.
    pub fn pick<'a, T: ?Sized>(&mut self, from: &'a [&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}
