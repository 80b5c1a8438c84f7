#!/bin/sh
# The instructions that the AMX tier is made of are in its object code: amx_object.sh OBJDUMP LIBRARY
code=$("$1" -d --no-show-raw-insn "$2") || exit 1
for instruction in ldtilecfg tilerelease tilezero tileloadd tilestored tdpbf16ps; do
    if ! printf '%s\n' "$code" | grep -qw "$instruction"; then
        case $code in
        *'file format elf64-x86-64'*) echo "$2 has no $instruction"; exit 1 ;;
        *) echo "$1 cannot read $2"; exit 77 ;;
        esac
    fi
done
