//! Panics that are those of a device.

use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe},
};

thread_local! {
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread does the work of a device whose panics are caught, become errors and are told as such: Burn has no
/// other way to say that a device failed inside an operation. A program's panic hook may leave them unsaid.
#[must_use]
pub fn panic_is_caught() -> bool {
    CAUGHT.get()
}

/// Runs what may panic because a device fails. The first line of the panic comes back.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = CAUGHT.replace(true);
    // What a panic leaves half done is thrown away with its device.
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(before);
    result.map_err(|payload| first_line(&*payload))
}

fn first_line(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it panicked").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_first_line() {
        assert!(!panic_is_caught());
        assert_eq!(guarded(panic_is_caught), Ok(true));
        let lost = guarded(|| -> () { panic!("\n  the driver is gone\n  at some place") });
        assert_eq!(lost, Err("the driver is gone".to_owned()));
        assert!(!panic_is_caught());
    }
}
