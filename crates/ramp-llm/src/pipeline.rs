//! The main job: a Hugging Face folder in, the best GGUF that fits a budget out.
//!
//! Every step is a call into the crate that owns it; here is only their order.

mod ablate;
mod command;
mod compare;
mod fleet;
mod learn;
mod metadata;
mod options;
mod plan;
mod prepare;
mod report;
mod resident;
mod run;
mod search;
mod state;
mod text;
mod train;
mod transfer;

pub use ablate::{AblateOptions, Ablated, BlockTypes, ablate_folding};
pub use compare::{
    AgainstFirst, CompareOptions, ComparedMethod, Cutting, MethodComparison, TextOptions, compare_methods,
};
pub use fleet::NamedDevice;
pub use options::{AllocatorKind, QuantizeOptions, fold_of_mode};
pub use plan::{FormatSize, Memory, Plan, PlanOptions, PlannedSize, Rates, Seconds, Work, plan};
pub use report::{Candidate, LayerReport, Quality, Report};
pub use run::{Step, StepFn, quantize};
pub use search::{
    BudgetSummary, FoundRun, Header, SearchAllocator, SearchOptions, SearchReport, SearchRun, SearchSummary,
    SearchTexts, Selected, search,
};
pub use text::{DEFAULT_TEXT, SearchSplit, TextSplit, read_text};
pub use train::{PolicyTraining, TrainReport, train_policy};
pub use transfer::{PolicyTransfer, TargetReport, TransferReport, transfer_policy};
