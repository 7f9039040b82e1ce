delete from scheduler.worker d where starts_with(d.label, $1::text || '_')
