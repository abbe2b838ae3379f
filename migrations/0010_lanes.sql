-- What an account held is released by one process at a time, by lane; replies keep the order of
-- their thread (design §1.9, §1.11).

-- Who releases what an account holds. A row is written only while there is something to release.
create table release_leases (
    channel_id  text primary key references channels (id),
    holder      text not null,
    -- Grows with each reign that does not continue the last one: whoever was deposed holds an older
    -- number, and a release with an older number changes nothing.
    fence       bigint not null,
    -- In the database's own time.
    lease_until timestamptz not null
);

-- The reign that released it, until it is claimed: what is out is counted by it.
alter table deliveries add column released_by bigint;

-- In which order an account's held deliveries are released. What waits for an older reply of its
-- thread is not the leader's to release: it follows that reply.
create function hub_release_rank(lane text, held_reason text) returns integer
language sql immutable parallel safe as $$
    select case when held_reason = 'reply_order' then 9 when lane = 'reply' then 0 when lane = 'notice' then 1 else 2 end
$$;

drop index deliveries_held;
create index deliveries_held on deliveries (channel_id, hub_release_rank(lane, held_reason), id) where state = 'held';
create index deliveries_released on deliveries (channel_id)
    where released_by is not null and state in ('queued', 'held');
-- The replies that a younger one of their thread waits for. The chat is read by provider time.
create index deliveries_open_replies on deliveries (channel_id, recipient_key, id)
    where lane = 'reply' and channel <> 'chat' and state in ('queued', 'held', 'claimed');
