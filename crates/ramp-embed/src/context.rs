//! The slots that depend on the bits chosen so far.

use crate::mode::FeatureMode;

/// Divisor of the paper's contextual slots (Table 24).
const PAPER_BITS: f64 = 8.0;

/// Where a walk over the layers is. All fields are nominal bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Context {
    /// Bits of the layer before.
    pub prev_bits: f64,
    /// Mean bits of all layers before.
    pub avg_bits: f64,
    /// There is no layer before: the two fields above say nothing.
    pub is_first: bool,
    /// Fewest bits of the action set.
    pub min_bits: f64,
    /// Most bits of the action set.
    pub max_bits: f64,
    /// Mean bits that the budget allows.
    pub target_bits: f64,
}

impl Context {
    /// Slots 9 and 10: `[prev_bits, avg_bits]`.
    ///
    /// In front of the first layer the paper has 0, a number of bits that no layer can have; in sound mode the
    /// target stands in for both. With a single action all sound values are 0.
    pub(crate) fn slots(self, mode: FeatureMode) -> [f32; 2] {
        let Self { prev_bits, avg_bits, is_first, min_bits, max_bits, target_bits } = self;
        let bits = match mode {
            FeatureMode::Paper | FeatureMode::Section32 if is_first => [0.0; 2],
            FeatureMode::Paper | FeatureMode::Section32 => [prev_bits / PAPER_BITS, avg_bits / PAPER_BITS],
            FeatureMode::Sound => {
                let range = max_bits - min_bits;
                let place = |bits: f64| if range > 0.0 { (bits - min_bits) / range } else { 0.0 };
                if is_first { [place(target_bits); 2] } else { [place(prev_bits), place(avg_bits)] }
            }
        };
        bits.map(|x| x as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: Context = Context {
        prev_bits: 6.0,
        avg_bits: 4.5,
        is_first: false,
        min_bits: 3.0,
        max_bits: 6.0,
        target_bits: 4.2,
    };

    #[test]
    fn bits_are_placed_as_the_mode_says() {
        assert_eq!(CONTEXT.slots(FeatureMode::Paper), [0.75, 0.5625]);
        assert_eq!(CONTEXT.slots(FeatureMode::Sound), [1.0, 0.5]);
    }

    #[test]
    fn nothing_is_known_in_front_of_the_first_layer() {
        let first = Context { is_first: true, ..CONTEXT };
        assert_eq!(first.slots(FeatureMode::Paper), [0.0, 0.0]);
        assert_eq!(first.slots(FeatureMode::Sound), [0.4, 0.4]);
    }

    #[test]
    fn a_single_action_has_no_range() {
        let single = Context { min_bits: 4.0, max_bits: 4.0, ..CONTEXT };
        assert_eq!(single.slots(FeatureMode::Sound), [0.0, 0.0]);
    }
}
