\echo 'sqlkit 0.1.0'
