-- What retention took out of the database stays told.

-- The weeks of events that are to be dropped, or were. A row is written before the first step, so that
-- a process that dies between the steps leaves no table behind that nobody owns.
create table dropped_event_weeks (
    partition  text primary key,
    -- The week's ids are from the first to before the next.
    first_id   uuid not null,
    next_id    uuid not null,
    decided_at timestamptz not null default now(),
    dropped_at timestamptz
);

-- When an event's id was made, to the millisecond: all that is known of the time of one that was dropped.
create function hub_uuid_time(id uuid) returns timestamptz language sql immutable strict as $$
    select to_timestamp(('x' || lpad(left(replace(id::text, '-', ''), 12), 16, '0'))::bit(64)::bigint / 1000.0)
$$;
