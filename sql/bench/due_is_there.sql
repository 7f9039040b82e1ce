select exists (select from scheduler.next_due(array[$1::text]) d where d.due_in <= interval '0')
