-- What the functions of all files need.


-- Those that use tables keep this search path: a caller with another one must neither fail nor make
-- them find tables of its own.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);


CREATE FUNCTION uuid_v7() RETURNS uuid LANGUAGE sql AS $$
    -- Start from a random UUID of version 4 and replace its first 48 bits by the time. Versions 4
    -- (0100) and 7 (0111) differ in two bits, which set_bit() counts as 52 and 53.
    SELECT encode(
        set_bit(set_bit(overlay(
            uuid_send(gen_random_uuid())
            PLACING substring(
                int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3
            )
            FROM 1 FOR 6
        ), 52, 1), 53, 1),
        'hex'
    )::uuid
$$;

COMMENT ON FUNCTION uuid_v7() IS
    'A UUID of version 7 (RFC 9562): milliseconds since 1970, then random bits, as db.ids.new_id, '
    'but in no order within a millisecond.';
