-- Equality of numbers and texts for the constraint of shop.price.
create extension if not exists btree_gist;
create schema if not exists raw;
create schema if not exists shop;

create table if not exists shop.chain (
    chain_id bigint primary key,
    name text not null
);

create table if not exists shop.store (
    chain_id bigint references shop.chain,
    store_id text,
    primary key (chain_id, store_id)
);

create table if not exists shop.product (
    chain_id bigint references shop.chain,
    barcode text,
    name text not null,
    manufacturer text,
    country text,
    quantity numeric,
    unit text,
    is_weighed boolean not null,
    primary key (chain_id, barcode)
);

-- What each store has asked for, and on which days.
create table if not exists shop.price (
    chain_id bigint not null,
    store_id text not null,
    barcode text not null,
    price numeric(10, 2) not null,
    unit_price numeric(12, 2),
    allows_discount boolean not null,
    told_on date not null,  -- when a price was seen first
    valid daterange not null,
    exclude using gist (chain_id with =, store_id with =, barcode with =, valid with &&),
    foreign key (chain_id, store_id) references shop.store,
    foreign key (chain_id, barcode) references shop.product
);

create or replace view shop.price_now as
select
    p.chain_id,
    p.store_id,
    p.barcode,
    p.price,
    p.unit_price,
    p.allows_discount
from shop.price as p
where upper_inf(p.valid);

create table if not exists shop.promotion (
    chain_id bigint,
    store_id text,
    barcode text,
    promotion_id text,
    description text not null,
    ends_on date not null,
    least_quantity numeric,
    price numeric(10, 2),
    discount numeric,
    is_for_club boolean not null,
    is_coupon boolean not null,
    reward smallint not null,
    primary key (chain_id, store_id, barcode, promotion_id),
    foreign key (chain_id, store_id) references shop.store
);
