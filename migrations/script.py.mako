<%
    raise Exception(
        "The revisions of sqlkit are generated: add the change to sql/, "
        "then run python -m sqlkit.build."
    )
%>
