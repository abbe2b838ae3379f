-- An operator's first key of a source of the registry makes the source known; the policy of the table
-- leaves it to the agency.

grant insert on sources to posto_reader;
