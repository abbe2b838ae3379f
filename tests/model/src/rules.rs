//! The invariants as switches, and how much the model has to bear.

/// What the protocol keeps to. Each can be taken out to see what it is for.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Rules {
    /// A message is acknowledged after its claim committed, not before.
    pub claim_before_ack: bool,
    /// A message is a row of the outbox, written in the transaction of the data.
    pub outbox: bool,
    /// A row of the outbox is deleted after its confirm, not when it was published.
    pub delete_after_confirm: bool,
    /// A copy in memory is dropped when its row's lease is over.
    pub hot_path_keeps_its_lease: bool,
    /// Work without a message gets a new one.
    pub reconciler: bool,
    /// Somebody concludes attempts that outlive their lease.
    pub reaper: bool,
    /// A claim asks that the delivery waits.
    pub claim_reads_state: bool,
    /// A claim asks that the message stands for the next attempt.
    pub claim_reads_attempt: bool,
    /// A claim asks that the message is of the delivery's generation.
    pub claim_reads_generation: bool,
    /// A claim asks that the attempt is due.
    pub claim_reads_due: bool,
    /// The claim is committed before the request begins.
    pub claim_before_send: bool,
    /// A sender that finds more than half of the lease's margin gone does not send.
    pub half_lease: bool,
    /// The reaper concludes only after the lease.
    pub reaper_waits: bool,
    /// The reaper concludes *unknown*, not *not sent*.
    pub reaper_says_unknown: bool,
    /// An answer that says nothing means *unknown*, not *try again*.
    pub unclear_is_unknown: bool,
    /// A stop gives back only what was not begun.
    pub stop_finishes_begun: bool,
    /// A late result wins over *unknown*.
    pub late_result_wins: bool,
    /// The result of an attempt that a newer one replaced moves nothing.
    pub results_follow_attempt: bool,
    /// A result moves a delivery only where the lattice lets it.
    pub results_follow_lattice: bool,
    /// A letter is superseded also when a late result, not a receipt, lifts its delivery.
    pub late_result_settles_letter: bool,
    /// A redrive raises the generation.
    pub redrive_raises_generation: bool,
    /// A redrive asks for force where the message may have left.
    pub doubt_needs_force: bool,
    /// A letter is redriven only while it is open.
    pub letters_once: bool,
    /// What is given up with a message dies only if it waits for that very message.
    pub burial_reads_attempt: bool,
    /// A stale copy that is given up leaves no letter in the way of the real one.
    pub stale_copies_leave_no_letter: bool,
    /// A claim reads the guard of the invoice in its transaction, not from a cache.
    pub guard_in_claim: bool,
    /// The guard stands as long as the invoice is paid, not only until the payment is routed.
    pub guard_stays: bool,
}

impl Rules {
    /// All of them.
    pub const ALL: Self = Self {
        claim_before_ack: true,
        outbox: true,
        delete_after_confirm: true,
        hot_path_keeps_its_lease: true,
        reconciler: true,
        reaper: true,
        claim_reads_state: true,
        claim_reads_attempt: true,
        claim_reads_generation: true,
        claim_reads_due: true,
        claim_before_send: true,
        half_lease: true,
        reaper_waits: true,
        reaper_says_unknown: true,
        unclear_is_unknown: true,
        stop_finishes_begun: true,
        late_result_wins: true,
        results_follow_attempt: true,
        results_follow_lattice: true,
        late_result_settles_letter: true,
        redrive_raises_generation: true,
        doubt_needs_force: true,
        letters_once: true,
        burial_reads_attempt: true,
        stale_copies_leave_no_letter: true,
        guard_in_claim: true,
        guard_stays: true,
    };
}

/// What a template says about an unknown outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It waits for evidence or a person.
    Park,
    /// It is sent once more when no evidence came in a window in which it would have.
    ResendIfSilent,
    /// It is sent again as long as there are retries.
    Resend,
}

/// How much the model has to bear.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Faults in one run, of whatever kinds.
    pub faults: u8,
    /// Times that a person steps in.
    pub people: u8,
    /// Retries of a delivery, in each generation.
    pub retries: u8,
    /// The broker may lose all its data.
    pub broker_may_be_wiped: bool,
}
