delete from scheduler.server d where starts_with(d.label, $1::text || '_')
