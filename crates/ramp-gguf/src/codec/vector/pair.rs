//! Two vectors as one: while one waits for the sum before it, the CPU works on the other.

use std::ops::{Add, Div, Mul, Sub};

use super::Vector;

#[derive(Copy, Clone)]
pub(in crate::codec) struct Pair<V>(V, V);

macro_rules! operator {
    ($($trait:ident, $method:ident;)*) => {$(
        impl<V: Vector> $trait for Pair<V> {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(self.0.$method(other.0), self.1.$method(other.1))
            }
        }
    )*};
}

operator! {
    Add, add;
    Sub, sub;
    Mul, mul;
    Div, div;
}

macro_rules! halves {
    ($($method:ident($($other:ident)?) -> $out:ty;)*) => {$(
        #[inline(always)]
        fn $method(self $(, $other: Self)?) -> $out {
            halves!(@call self, $method $(, $other)?)
        }
    )*};
    (@call $self:ident, $method:ident) => { Self($self.0.$method(), $self.1.$method()) };
    (@call $self:ident, $method:ident, $other:ident) => {
        Self($self.0.$method($other.0), $self.1.$method($other.1))
    };
}

impl<V: Vector> Vector for Pair<V> {
    const LANES: usize = 2 * V::LANES;
    type Mask = (V::Mask, V::Mask);

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(V::splat(value), V::splat(value))
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        Self(V::load(from), V::load(&from[V::LANES..]))
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        self.0.store(to);
        self.1.store(&mut to[V::LANES..]);
    }

    halves! {
        abs() -> Self;
        sqrt() -> Self;
        round() -> Self;
        nearest() -> Self;
        wrap_u8() -> Self;
        min(other) -> Self;
        max(other) -> Self;
    }

    #[inline(always)]
    fn gt(self, other: Self) -> Self::Mask {
        (self.0.gt(other.0), self.1.gt(other.1))
    }

    #[inline(always)]
    fn lt(self, other: Self) -> Self::Mask {
        (self.0.lt(other.0), self.1.lt(other.1))
    }

    #[inline(always)]
    fn ne(self, other: Self) -> Self::Mask {
        (self.0.ne(other.0), self.1.ne(other.1))
    }

    #[inline(always)]
    fn and(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        (V::and(a.0, b.0), V::and(a.1, b.1))
    }

    #[inline(always)]
    fn and_not(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        (V::and_not(a.0, b.0), V::and_not(a.1, b.1))
    }

    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        V::any(mask.0) | V::any(mask.1)
    }

    #[inline(always)]
    fn select(mask: Self::Mask, a: Self, b: Self) -> Self {
        Self(V::select(mask.0, a.0, b.0), V::select(mask.1, a.1, b.1))
    }
}
