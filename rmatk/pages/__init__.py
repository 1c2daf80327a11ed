"""HTML pages: skeleton, tables, pictures, curves; the report of a run."""
