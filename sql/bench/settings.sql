select s.name, current_setting(s.name)
from pg_settings s
where s.name in (
    'server_version', 'fsync', 'synchronous_commit', 'full_page_writes', 'wal_level', 'data_checksums', 'shared_buffers',
    'max_wal_size', 'max_connections', 'jit'
)
order by s.name
