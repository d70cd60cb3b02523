-- Divides a database of Sammati over the servers of a Citus cluster: every table by `partition`, side by side, so that
-- a transaction of one partition runs on one server. For identity, consent and audit alike; run it in each database
-- (audit's payload keys are one of their own), on the coordinator, as the role that owns the tables:
--
--   1. CREATE EXTENSION citus;                          in each database
--   2. sammati {service} migrate --config …             makes the tables
--   3. psql -v ON_ERROR_STOP=1 -d {database} -f citus.sql
--   4. database.one_partition_per_transaction = true    in the service's configuration, and start it
--
-- Run it again after each new version's migrations, before they are served: what is divided already is left alone.
-- What the store sets for its sessions holds on the coordinator; give it to the role on the workers once:
--   SELECT run_command_on_workers('ALTER ROLE sammati SET enable_hashjoin=off; ALTER ROLE sammati SET
--     enable_mergejoin=off; ALTER ROLE sammati SET enable_seqscan=off; ALTER ROLE sammati SET jit=off');
DO $$
DECLARE
    divided CONSTANT TEXT[] := ARRAY[
        -- the store's, in each database; `head` first, the others go where it goes
        'head', 'feed', 'cursor', 'request', 'claim',
        -- identity
        'account', 'data_key', 'guard', 'participant', 'portrait', 'representation', 'session', 'txn',
        -- consent; `data_key` is named above
        'artefact', 'care_context', 'cohort_chunk', 'cohort_count', 'cohort_use', 'consent', 'consent_request', 'link',
        'discovery', 'glass_count', 'link_try', 'notice', 'notice_texts', 'notification',
        'policy', 'profile_share', 'rights_request', 'status_list', 'step_up', 'study', 'study_ask', 'subscription', 'transfer',
        -- audit
        'checkpoint', 'cosignature', 'erasure', 'leaf', 'legal_hold', 'log', 'log_key', 'mention', 'posting', 'source', 'subject',
        'tile',
        -- audit's payload keys
        'payload_key',
        -- how audit's log ended
        'succession',
        -- a witness
        'witnessed'
    ];
    -- A row or a few, the same for all: every server has them.
    everywhere CONSTANT TEXT[] := ARRAY['database', 'needed'];
    one TEXT;
BEGIN
    FOREACH one IN ARRAY everywhere LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrelid = to_regclass(one)) THEN
            PERFORM create_reference_table(one::REGCLASS);
        END IF;
    END LOOP;
    FOREACH one IN ARRAY divided LOOP
        IF to_regclass(one) IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrelid = to_regclass(one))
        THEN
            PERFORM create_distributed_table(
                one::REGCLASS, 'partition', colocate_with => CASE one WHEN 'head' THEN 'none' ELSE 'head' END);
        END IF;
    END LOOP;
END
$$;
