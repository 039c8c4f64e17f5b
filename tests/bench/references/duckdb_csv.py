"""Write the JSON lines of a gzip file to standard output as CSV, read by DuckDB."""

import sys

import duckdb

connection = duckdb.connect()
connection.execute("set preserve_insertion_order = false")
connection.execute(
    f"""
    copy (
        select id, kind, title, amount, ratio, active, "at", buyer, tags
        from read_json(
            '{sys.argv[1].replace("'", "''")}',
            format = 'newline_delimited',
            columns = {{
                'id': 'BIGINT', 'kind': 'VARCHAR', 'title': 'VARCHAR', 'amount': 'DECIMAL(20, 4)',
                'ratio': 'DOUBLE', 'active': 'BOOLEAN', 'at': 'VARCHAR', 'buyer': 'JSON',
                'tags': 'JSON'
            }}
        )
    ) to '/dev/stdout' (format csv, header false)
    """
)
