//! L1: where clients are. Databases become one sorted table of ranges and facts; a policy's view of it becomes a [`ClassMap`].
//! Pure: bytes in, tables out.
