"""What `import firesteel` offers for DataFrames."""
