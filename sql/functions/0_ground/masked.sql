create or replace function scheduler.masked(
    p_value jsonb, p_salt text, p_depth integer default 0, p_whole boolean default false
) returns jsonb
language plpgsql immutable parallel safe
as $$
declare
    c_names  constant text :=
        'passw|passphrase|pwd|secret|token|authorization|credential|cookie|api.?key|access.?key|private.?key';
    c_pieces constant text :=
        '(://[^\s/:@"]*:(?=[^\s/@"]+@)|(' || c_names || ')[\w-]*["'']?\s*[=:]\s*["'']?((bearer|basic|token)\s+)?)[^\s"''&;@]+';
    v_mark   text;
begin
    -- A value as the audit keeps it: what stands under a name that looks like a secret's, and what looks like one in a
    -- text (a password in a URL, `--password=…`, `Authorization: Bearer …`), gives way to a mark. The mark is made of the
    -- value and of a salt that nobody keeps: two marks of one entry tell whether the value changed, and no guess can be
    -- tried against them. What is nested deeper than 32 levels is masked whole, so that no depth exhausts the stack.
    if p_depth = 0 and p_value::text !~* ('://[^/"]*@|' || c_names) then
        return p_value;
    end if;
    if p_whole or jsonb_typeof(p_value) = 'string' or p_depth > 32 then
        v_mark := 'masked ' || left(encode(sha256(convert_to(p_salt || p_value, 'UTF8')), 'hex'), 8);
    end if;
    case
        when p_value is null or jsonb_typeof(p_value) in ('null', 'boolean') then
            return p_value;
        when p_whole or p_depth > 32 and jsonb_typeof(p_value) in ('object', 'array') then
            return to_jsonb(v_mark);
        when jsonb_typeof(p_value) = 'object' then
            return (
                select coalesce(
                    jsonb_object_agg(e.key, scheduler.masked(e.value, p_salt, p_depth + 1, e.key ~* c_names)), '{}'
                )
                from jsonb_each(p_value) e
            );
        when jsonb_typeof(p_value) = 'array' then
            return (
                select coalesce(jsonb_agg(scheduler.masked(e.value, p_salt, p_depth + 1) order by e.ordinality), '[]')
                from jsonb_array_elements(p_value) with ordinality e
            );
        when jsonb_typeof(p_value) = 'string' then
            return to_jsonb(regexp_replace(p_value #>> '{}', c_pieces, '\1(' || v_mark || ')', 'gi'));
        else
            return p_value;
    end case;
end
$$;
comment on function scheduler.masked(jsonb, text, integer, boolean) is 'A value without what looks like a secret.';
