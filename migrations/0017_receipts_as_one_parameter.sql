-- What applying receipts writes, as one array each (see 0015).

-- A delivery that evidence moves, by compare-and-set.
create type hub_delivery_move as (
    id           uuid,
    old_state    text,
    new_state    text,
    failure_code text
);

-- What became of a receipt; `key_id` is what it tells its attempt, where that has none.
create type hub_settled_receipt as (
    id          uuid,
    state       text,
    delivery_id uuid,
    attempt_id  uuid,
    effect      text,
    key_id      text
);
