//! A rule of thumb from roles and depth alone, no number of the model behind it.
//!
//! # Source
//! The directions that llama.cpp's mixes agree on (`llama_tensor_get_type` and `use_more_bits` in `src/llama-quant.cpp`),
//! without their types: the head, values and the two projections back into the residual stream get more than queries,
//! keys, gate and up; of the blocks, the first and the last eighth get more. The lengths of the steps are chosen here.

use ramp_model::{LayerId, Role};

use crate::{
    allocator::{Allocator, Found, SearchContext},
    error::Result,
    problem::{Choices, Problem},
    progress::ProgressFn,
    projection::project,
};

/// More bits by role and depth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoleDepth {
    /// What favoured roles have more, as a share of the range of choices.
    pub role: f64,
    /// What the first and the last eighth of the blocks have more.
    pub depth: f64,
}

impl Default for RoleDepth {
    fn default() -> Self {
        Self { role: 0.2, depth: 0.1 }
    }
}

impl RoleDepth {
    /// The allocation.
    #[must_use]
    pub fn choices(&self, problem: &Problem) -> Choices {
        let blocks =
            problem.slots().iter().filter_map(|slot| slot.id.block()).max().map_or(1, |last| last + 1);
        let action = |id: LayerId| match id {
            LayerId::TokenEmbd => 0.5,
            LayerId::Output => 0.5 + self.role,
            LayerId::Block { block, role } => {
                let favoured = matches!(role, Role::V | Role::Qkv | Role::O | Role::Down);
                let outer = 8 * block < blocks || 8 * block >= 7 * blocks;
                0.5 + if favoured { self.role } else { 0.0 } + if outer { self.depth } else { 0.0 }
            }
        };
        // Slots that are asked for alike would all move at once; a trace of order lets the budget be used.
        let n = problem.slots().len() as f64;
        let actions: Vec<f64> = problem
            .slots()
            .iter()
            .enumerate()
            .map(|(at, slot)| (action(slot.id) - 1e-3 * at as f64 / n).clamp(0.0, 1.0))
            .collect();
        project(problem, &actions)
    }
}

impl Allocator for RoleDepth {
    fn name(&self) -> &'static str {
        "role-depth"
    }

    fn allocate(&mut self, context: &mut SearchContext<'_>, _progress: &mut ProgressFn<'_>) -> Result<Found> {
        let choices = self.choices(context.evaluator.problem());
        context.found(choices, "role and depth")
    }
}
